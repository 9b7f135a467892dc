"""Whether a captioner looks at what it names, and names it because it looked there.

An object word is one that names something whose place is known. Where nothing is known of places,
every word that is not one of `FUNCTION_WORDS` is taken instead, and called a content word.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from captioner.alignment import visible
from captioner.data.images import Transform
from captioner.data.records import Mention, Record, unique
from captioner.grid import Centres, Grid
from captioner.metrics.grounding import entropy, mass_inside, pointing_hit, spread
from captioner.metrics.metric import Metric, Words, mean
from captioner.models.decoder import Decoder, Trace
from captioner.search import Hypothesis
from captioner.vocabulary import FUNCTION_WORDS, PAD, SPECIALS, START, Vocabulary, words

Tally = dict[str, list[float]]
"""What one image adds to each score: a value for each word, or for each caption."""


def means(tallies: Sequence[Tally]) -> Iterator[Metric]:
    """Each score's mean over all values of N images."""
    for name in unique(name for tally in tallies for name in tally):
        values = [tally.get(name, ()) for tally in tallies]
        counts = np.array([len(several) for several in values])
        if counts.any():
            yield mean(name, np.array([sum(several) for several in values]), counts)


def look(record: Record, caption: Words, trace: Trace, grid: Grid, transform: Transform) -> Tally:
    """How a caption's attention, and its gate, went with its words.

    trace: α (T, L) and β (T, ·) of the caption's T words. `transform` made the encoder's picture.
    """
    alphas = trace.alpha.float().reshape(-1, grid.height, grid.width).numpy()
    kind, chosen = object_words(record, caption)
    tally = _placed(visible(record, caption, transform), alphas, grid.centres)
    if record.regions is not None:
        tally["object-words"] = [len(chosen)]
    tally["attention-entropy"] = [entropy(alphas[i]) for i in chosen]
    if len(caption):
        tally["attention-coverage"] = [100 * spread(alphas)]
    beta = trace.beta.float().mean(-1).tolist()
    if any(value != 1 for value in beta):  # all are 1 where there is no gate
        tally[f"beta-{kind}"] = [beta[i] for i in chosen]
        tally["beta-function"] = [
            value for value, word in zip(beta, caption, strict=True) if word in FUNCTION_WORDS
        ]
    return tally


def object_words(record: Record, caption: Words) -> tuple[str, list[int]]:
    """Places in the caption of its object words, or else content words; and which they are."""
    if record.regions is not None:
        return "object", [mention.index for mention in record.regions.mentions(caption)]
    names_nothing = FUNCTION_WORDS.union(SPECIALS)
    return "content", [i for i, word in enumerate(caption) if word not in names_nothing]


def _placed(mentions: Sequence[Mention], alphas: np.ndarray, centres: Centres) -> Tally:
    tally: Tally = {"pointing": [], "attention-inside": []}
    for index, boxes in ((mention.index, mention.boxes) for mention in mentions):
        tally["pointing"].append(100 * pointing_hit(alphas[index], boxes, centres))
        tally["attention-inside"].append(100 * mass_inside(alphas[index], boxes, centres))
    return tally


class Probe:
    """What takes the decoder once more; called with a batch while its annotations are there."""

    def __init__(self, decoder: Decoder, vocabulary: Vocabulary, grid: Grid, transform: Transform):
        self.decoder, self.vocabulary = decoder, vocabulary
        self.grid, self.transform = grid, transform
        self.random = torch.Generator().manual_seed(0)

    def __call__(
        self, records: Sequence[Record], annotations: Tensor, hypotheses: Sequence[Hypothesis]
    ) -> list[Tally]:
        """annotations: (N, L, D). hypotheses: each image's best one, with its trace."""
        dropped = self.deletion(records, annotations, hypotheses)
        told = self.references(records, annotations)
        return [one | other for one, other in zip(dropped, told, strict=True)]

    @torch.no_grad()
    def deletion(
        self, records: Sequence[Record], annotations: Tensor, hypotheses: Sequence[Hypothesis]
    ) -> list[Tally]:
        """By how much log p of object words drops where the picture lacks what they looked at.

        The annotations of the smallest set of locations that holds half of a word's α become the
        image's mean annotation, a value that the decoder knows, unlike zero, and that tells least.
        Then the decoder reads the same words from the start, having never seen those locations.
        The same is done with as many locations drawn at random. In nats.
        """
        by_index = defaultdict(list)  # words of several images are read together if equally far on
        for n, (record, hypothesis) in enumerate(zip(records, hypotheses, strict=True)):
            for t in object_words(record, self.vocabulary.decode(hypothesis.ids))[1]:
                by_index[t].append((n, torch.rand(annotations.shape[1], generator=self.random)))
        tallies: list[Tally] = [defaultdict(list) for _ in records]
        for t, chosen in by_index.items():
            rows = [n for n, _ in chosen]
            ids = torch.tensor([[START, *hypotheses[n].ids[: t + 1]] for n in rows])
            alpha = torch.stack([hypotheses[n].trace.alpha[t] for n in rows])
            masks = half_and_random(alpha, torch.stack([noise for _, noise in chosen]))
            drops = self._drops(ids, annotations[rows], masks).tolist()
            for n, attended, random in zip(rows, *drops, strict=True):
                tallies[n]["deletion-attended"].append(attended)
                tallies[n]["deletion-random"].append(random)
                tallies[n]["deletion-difference"].append(attended - random)
        return tallies

    def _drops(self, ids: Tensor, annotations: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """Drop of log p of the last word, (2, R). ids: (R, t + 2); masks: two of (R, L)."""
        average = annotations.mean(1, keepdim=True)
        masked = [
            torch.where(mask[..., None].to(annotations.device), average, annotations)
            for mask in masks
        ]
        tokens = ids.to(annotations.device).repeat(3, 1)[:, None]  # (3 R, 1, t + 2)
        known = torch.ones_like(tokens[..., 1:], dtype=torch.bool)
        unrolled = self.decoder(tokens[..., :-1], known, torch.cat([annotations, *masked]))
        last = unrolled.logits[-len(tokens) :].float().log_softmax(-1)  # words stand step by step
        whole, *others = last.gather(1, tokens[:, 0, -1:]).squeeze(1).chunk(3)
        return torch.stack([whole - other for other in others])

    def references(self, records: Sequence[Record], annotations: Tensor) -> list[Tally]:
        """Where attention is while reference captions are read whose words' places are known.

        The words are the same for every captioner, so unlike the scores of captions of one's own
        these can't be raised by naming little.
        """
        given = [record.captions if record.regions is not None else [] for record in records]
        if not any(given):
            return [{} for _ in records]
        alphas = self._read(
            [[self.vocabulary.encode(text)[:-1] for text in g] for g in given], annotations
        )
        tallies = []
        for n, record in enumerate(records):
            tally: Tally = defaultdict(list)
            for k, text in enumerate(given[n]):
                mentions = visible(record, words(text), self.transform)
                for name, values in _placed(mentions, alphas[n, k], self.grid.centres).items():
                    tally[f"reference-{name}"] += values
            tallies.append(tally)
        return tallies

    @torch.no_grad()
    def _read(self, captions: Sequence[Sequence[list[int]]], annotations: Tensor) -> np.ndarray:
        """α (N, K, T, H, W) before each word of N images' captions, filled up behind their ends."""
        most = max(map(len, captions))
        longest = max((len(ids) for several in captions for ids in several), default=0)
        tokens = torch.full((len(captions), most, longest + 1), PAD)
        for n, several in enumerate(captions):
            for k, ids in enumerate(several):
                tokens[n, k, : len(ids) + 1] = torch.tensor([START, *ids])
        alphas = torch.zeros(*tokens[..., 1:].shape, self.grid.height * self.grid.width)
        memory = self.decoder.remember(annotations)
        state = self.decoder.start(memory, most)
        for t in range(longest):
            _, state, trace = self.decoder.step(
                tokens[..., t].to(annotations.device), state, memory
            )
            alphas[:, :, t] = trace.alpha.cpu()
        return alphas.unflatten(-1, (self.grid.height, self.grid.width)).numpy()


def half_and_random(alpha: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest set of locations that holds half of alpha (R, L), and as many others at random.

    Both as masks (R, L). `noise` (R, L) draws the second set, and settles among equal alphas: where
    attention prefers nothing the two are the same.
    """
    shuffled = noise.argsort(-1, descending=True)
    order = shuffled.gather(
        1, alpha.gather(1, shuffled).argsort(dim=-1, descending=True, stable=True)
    )
    held = alpha.gather(1, order).double()
    before = held.cumsum(-1) - held  # by the locations ahead of each
    chosen = before < 0.5 * held.sum(-1, keepdim=True)
    return tuple(torch.zeros_like(chosen).scatter(1, each, chosen) for each in (order, shuffled))
