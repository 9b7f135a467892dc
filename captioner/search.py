"""From annotations to captions: greedy, beam and sampled search, all with their traces.

All three share one loop, which writes K captions for each of N images at once. They differ only in
how they pick the next words from the scores of all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from captioner.consensus import agreement
from captioner.models.decoder import Decoder, Step, Trace
from captioner.models.lstm import State
from captioner.rules import NEVER, WORDS, Rules, count_words, has_ended, only_padding_
from captioner.vocabulary import END, PAD, START


@dataclass
class Hypothesis:
    """One caption, with what the decoder saw at each of its T words (`<end>` not among them)."""

    ids: list[int]  # T word ids
    log_prob: float  # log p of the whole caption, its `<end>` included where it ended by itself
    score: float  # what it is ranked by
    word_log_probs: Tensor  # (T,) log p of each word given those before
    trace: Trace | None  # each (T, ·), where traces were asked for
    ended: bool  # false where the length limit cut it off


class Choice(NamedTuple):
    """The next word of each of the K captions of an image, and which caption it continues."""

    token: Tensor  # (N, K)
    parent: Tensor  # (N, K) index into the previous step's K


Pick = Callable[[Tensor, Tensor, Tensor], Choice]
"""(log_probs (N, K, V) of the next word, totals (N, K) so far, lengths (N, K) with it) → Choice."""


def search(
    decoder: Decoder,
    annotations: Tensor,
    strategy: str = "beam",
    width: int = 5,
    max_length: int = 30,
    min_length: int = 1,
    length_penalty: float = 0.0,
    consensus: float = 0.0,
    block_ngrams: int = 0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    trace: bool = False,
) -> list[list[Hypothesis]]:
    """Captions for annotations (N, L, D): per image `width` hypotheses (greedy: one), best first.

    The options are those of `SearchOptions`. `<unk>` is never written. A beam that has not ended
    at `max_length` words is taken as it stands, so there always is a caption. With `consensus`,
    which is a sharpness, beams are found as ever and then ranked by their `agreement`.
    """
    if strategy == "greedy":
        width, pick = 1, pick_likeliest
    elif strategy == "beam":
        pick = BeamPick(length_penalty)
    else:
        pick = SamplePick(temperature, top_k, top_p, seed, annotations.device)
    rules = Rules(max_length, min_length, block_ngrams)
    with torch.inference_mode():
        draft = write(decoder, annotations, width, pick, rules, trace)
        found = draft.hypotheses(length_penalty if strategy == "beam" else 0.0)
    return [by_consensus(several, consensus) for several in found] if consensus else found


def by_consensus(found: list[Hypothesis], sharpness: float) -> list[Hypothesis]:
    """An image's captions in the order of their `agreement`, which becomes their score."""
    captions, scores = zip(*((each.ids, each.score) for each in found), strict=True)
    agreed = agreement(captions, scores, sharpness)
    order = (-agreed).argsort(kind="stable")
    return [replace(found[k], score=float(agreed[k])) for k in order]


def pick_likeliest(log_probs: Tensor, totals: Tensor, lengths: Tensor) -> Choice:
    """The likeliest next word of each caption."""
    token = log_probs.argmax(-1)
    return Choice(token, torch.arange(token.shape[1], device=token.device).expand_as(token))


@dataclass
class BeamPick:
    """The K best continuations over all words of all K captions of an image.

    An ended caption has one continuation, `<pad>`, at no cost; so it stays in the beam for as long
    as its score holds. Scores are log-probability / length ** length_penalty, `<end>` counted.
    """

    length_penalty: float

    def __call__(self, log_probs: Tensor, totals: Tensor, lengths: Tensor) -> Choice:
        width, vocabulary = log_probs.shape[1:]
        few = log_probs.topk(min(width, vocabulary), dim=-1)  # of one caption no more can be chosen
        scores = totals[..., None] + few.values  # (N, K, K)
        if self.length_penalty:
            scores = scores / lengths[..., None] ** self.length_penalty
        best = scores.flatten(1).topk(width, dim=-1).indices
        return Choice(few.indices.flatten(1).gather(1, best), best // scores.shape[-1])


class SamplePick:
    """A random next word for each caption, from the likeliest few, from a seed of its own."""

    def __init__(
        self, temperature: float, top_k: int, top_p: float, seed: int, device: torch.device
    ):
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self.generator = torch.Generator(device).manual_seed(seed)

    def __call__(self, log_probs: Tensor, totals: Tensor, lengths: Tensor) -> Choice:
        probs = truncate((log_probs / self.temperature).softmax(-1), self.top_k, self.top_p)
        # One random number per caption, which falls somewhere in the distribution, where
        # torch.multinomial draws one per word. It stays below the total, however that rounds.
        below = probs.cumsum(-1)
        draw = torch.rand((*probs.shape[:2], 1), generator=self.generator, device=probs.device)
        token = torch.searchsorted(below, (1 - 2**-20) * draw * below[..., -1:], right=True)
        token = token.squeeze(-1)
        return Choice(token, torch.arange(token.shape[1], device=token.device).expand_as(token))


def truncate(probs: Tensor, top_k: int, top_p: float) -> Tensor:
    """Zeroes all but the `top_k` likeliest words and the nucleus of mass `top_p` (Holtzman 2020).

    probs: (…, V). The likeliest word always stays. The result is not normalised.
    """
    if not top_k and top_p == 1:
        return probs  # sorting would take longer than all the rest of a step
    ordered, words = probs.sort(dim=-1, descending=True)
    keep = ordered.cumsum(-1) - ordered < top_p
    keep |= top_p == 1  # a sum of nearly 1 may round to it
    if top_k:
        keep[..., top_k:] = False
    keep[..., 0] = True
    return torch.zeros_like(probs).scatter(-1, words, ordered * keep)


class Turn(NamedTuple):
    """What one more word of each caption brings."""

    choice: Choice
    gain: Tensor  # (N, K) log p of the chosen words
    state: State  # behind them, in the order of the choice
    trace: Trace  # before them, in the order before the choice


def advance(pick: Pick, rules: Rules, words: Tensor, totals: Tensor, step: Step) -> Turn:
    """A turn of the loop behind its step: forbid, pick, reorder. words: (N, K, t); totals: (N, K).

    It branches on no shape and no value, for `export` makes a graph of it.
    """
    live = ~has_ended(words)
    logits, state, trace = step
    log_probs = rules(logits.float().log_softmax(-1), words)
    only_padding_(log_probs, ~live)
    choice = pick(log_probs, totals, count_words(words) + live)
    continued = choice.parent * log_probs.shape[-1] + choice.token
    return Turn(
        choice,
        log_probs.flatten(1).gather(1, continued),
        State(*(take(part, choice.parent) for part in state)),
        trace,
    )


def widened(step: Step, captions: int) -> Step:
    """The step of one row that K captions share, for each of them; one of K rows as it is."""

    def each(values: Tensor) -> Tensor:
        return values.expand(-1, captions, *values.shape[2:])

    logits, state, trace = step
    return Step(each(logits), State(*map(each, state)), Trace(*map(each, trace)))


def write(
    decoder: Decoder, annotations: Tensor, width: int, pick: Pick, rules: Rules, trace: bool
) -> Draft:
    """The loop that all strategies share: step, forbid, pick, reorder, until all have ended."""
    memory = decoder.remember(annotations)
    state = decoder.start(memory)  # which all captions of an image share
    memory = decoder.read_ahead(memory, WORDS * width)
    words = torch.full((len(annotations), width, 1), START, device=annotations.device)
    totals = torch.zeros(len(annotations), width, device=annotations.device)
    if isinstance(pick, BeamPick):
        totals[:, 1:] = NEVER  # all K beams are still the same one: continue only the first
    draft = Draft(words, totals)
    images = torch.arange(len(annotations), device=annotations.device)  # those still being written
    for _ in range(rules.max_length):
        live = ~has_ended(draft.words[images])
        going = live.any(-1)
        if not going.any():
            break
        if not going.all():  # images whose captions have all ended cost nothing from here on
            images, live = images[going], live[going]
            state = State(*(part[going] for part in state))
            memory = memory._make(part[going] for part in memory)
        words, totals = draft.words[images], draft.totals[images]
        step = decoder.step(words[:, : state.hidden.shape[1], -1], state, memory)
        turn = advance(pick, rules, words, totals, widened(step, width))
        draft.add(images, turn.choice, turn.gain, turn.trace if trace else None)
        state = turn.state
    return draft


class Draft:
    """What has been written so far, and how it came about."""

    def __init__(self, words: Tensor, totals: Tensor):
        self.words = words  # (N, K, 1 + steps) ids, `<start>` first, `<pad>` behind `<end>`
        self.totals = totals  # (N, K) log p
        self.parents: list[Tensor] = []  # per step (N, K): which row a caption continued
        self.gains: list[Tensor] = []  # per step (N, K): log p of its word
        self.traces: list[Trace | None] = []  # per step, in the row order before the choice

    def add(self, images: Tensor, choice: Choice, gain: Tensor, trace: Trace | None) -> None:
        """One more word for some images, of which (n, …) are given; the others get `<pad>`."""
        same = torch.arange(self.words.shape[1], device=images.device).expand_as(self.totals)
        parent = same.index_copy(0, images, choice.parent)
        token = torch.full_like(parent, PAD).index_copy(0, images, choice.token)
        gain = torch.zeros_like(self.totals).index_copy(0, images, gain)
        self.words = torch.cat([take(self.words, parent), token[..., None]], dim=-1)
        self.totals = take(self.totals, parent) + gain
        self.parents.append(parent)
        self.gains.append(gain)
        if trace is not None:
            count = len(self.words)
            parts = (part.new_zeros(count, *part.shape[1:]).float() for part in trace)
            trace = Trace(
                *(z.index_copy(0, images, p.float()) for z, p in zip(parts, trace, strict=True))
            )
        self.traces.append(trace)

    def hypotheses(self, length_penalty: float) -> list[list[Hypothesis]]:
        """All captions that can be, best first per image, their traces followed back."""
        scores = self.totals / count_words(self.words).clamp(min=1) ** length_penalty
        order = scores.argsort(dim=-1, descending=True, stable=True)
        gains, traces = self._follow_back(order)
        parts = self.words, self.totals, scores, has_ended(self.words)
        words, totals, scores, ended = (take(part, order).tolist() for part in parts)

        def hypothesis(n: int, k: int) -> Hypothesis:
            ids = [i for i in words[n][k] if i > END]
            trace = Trace(*(part[n, k, : len(ids)] for part in traces)) if traces else None
            return Hypothesis(
                ids=ids,
                log_prob=totals[n][k],
                score=scores[n][k],
                word_log_probs=gains[n, k, : len(ids)],
                trace=trace,
                ended=ended[n][k],
            )

        return [
            [hypothesis(n, k) for k, score in enumerate(row) if score > NEVER]
            for n, row in enumerate(scores)
        ]

    def _follow_back(self, order: Tensor) -> tuple[Tensor, Trace | None]:
        """Log p per word (N, K, T), and the trace, each (N, K, T, ·), along each caption's past."""
        gains, traces, row = [], [], order
        for parent, gain, trace in zip(
            self.parents[::-1], self.gains[::-1], self.traces[::-1], strict=True
        ):
            gains.append(take(gain, row))
            row = take(parent, row)
            if trace is not None:
                traces.append([take(part, row) for part in trace])
        gains = torch.stack(gains[::-1], dim=2).cpu()
        if not traces:
            return gains, None
        return gains, Trace(
            *(torch.stack(part[::-1], dim=2).cpu() for part in zip(*traces, strict=True))
        )


def take(values: Tensor, rows: Tensor) -> Tensor:
    """values (N, K, …) with the K rows of each image reordered by rows (N, K).

    Rows of all images are numbered through, so that each is copied whole: `gather` would look up
    an index for each number.
    """
    images, captions = values.shape[:2]
    first = captions * torch.arange(images, device=rows.device)[:, None]
    taken = values.flatten(0, 1).index_select(0, (first + rows).flatten())
    return taken.unflatten(0, rows.shape)
