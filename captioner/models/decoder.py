"""The decoder: attention, gate, LSTM and deep output, word by word (Xu et al. 2015, 3.1.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional as F

from captioner.models.attention import Draw, Look, Memory, SoftAttention
from captioner.models.cells import CELLS
from captioner.models.kinds import build_attention
from captioner.models.lstm import State
from captioner.models.parts import ContextGate, DeepOutput, Dropout, InitialState
from captioner.models.ragged import Places, attended, everyone, in_order, places_of
from captioner.models.unrolled import unrolled
from captioner.precision import for_products


class Trace(NamedTuple):
    """What the decoder saw and decided at one step (or, stacked, at all of them)."""

    alpha: Tensor  # (N, K, L) attention weights
    beta: Tensor  # (N, K, 1 or D) gate on the context vector; all ones where there is none
    input: Tensor  # (N, K, H) i
    forget: Tensor  # (N, K, H) f
    output: Tensor  # (N, K, H) o
    candidate: Tensor  # (N, K, H) g
    cell: Tensor  # (N, K, H) c_t
    hidden: Tensor  # (N, K, H) h_t


class Step(NamedTuple):
    """One word further."""

    logits: Tensor  # (N, K, V)
    state: State
    trace: Trace


class Unrolled(NamedTuple):
    """A whole batch of captions under teacher forcing. M is the number of real words."""

    logits: Tensor  # (M, V) for the real words alone, in the order of `in_order`
    attended: Tensor  # (N, K, L) Σ_t α_t over each caption's real words
    draw: Draw | None  # each (M,) as the logits; where REINFORCE is to learn from it
    alphas: Tensor  # (M, L) α_t before each of these words, as the logits


class Recurred(NamedTuple):
    """What a loop over the words of known captions has found, for each of M words."""

    words: Tensor  # (M, E) E y_{t-1}, as the cell read them
    hidden: Tensor  # (M, H) h_t
    context: Tensor  # (M, E) L_z ẑ_t, behind β; (M, 0) where the output has no L_z
    alpha: Tensor  # (M, L) α_t
    draw: Draw | None = None  # each (M,)


Loop = Callable[[Tensor, Tensor, State, Memory, Tensor], Recurred]
"""`Decoder.recur`, with the mask in the place of the steps."""


class Decoder(nn.Module):
    """Writes captions of images, looking anew before each word.

    Tensors hold N images with K captions (or beams) each, so that the captions of one image share
    one row of annotations. Attention and β see h_{t-1}; only the output sees h_t.
    """

    def __init__(
        self,
        vocabulary: int,
        annotation: int,
        hidden: int = 512,
        embedding: int = 512,
        attention: int = 512,
        projection: int = 0,
        attention_kind: str = "soft",
        attention_nonlinearity: str = "tanh",
        heads: int = 1,
        estimator: str = "reinforce",
        expectation: float = 0.5,
        temperature: float = 1.0,
        beta: str = "scalar",
        cell: str = "lstm",
        shared_init: bool = False,
        forget_bias: float = 0.0,
        deep_output: bool = True,
        output_tanh: bool = False,
        tied_output: bool = False,
        scaled_embedding: bool = False,
        dropout: float = 0.0,
    ):
        """Sizes V, D, H, E, A; `projection` > 0 maps annotations to that size first, normalised.

        `attention_kind` and what stands below it go to `build_attention`; `cell` is one of `CELLS`.
        `scaled_embedding` lets the LSTM read √E · E y_{t-1} (Vaswani et al. 2017, 3.4): rows of E
        start with a length near one, as the output needs them, and are faint beside the context.
        `dropout` acts on the embedded words, the projected annotations, h_t before the output and
        the sum in the output.
        """
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        nn.init.normal_(self.embedding.weight, std=embedding**-0.5)
        self.scale = embedding**0.5 if scaled_embedding else 1.0
        self.projection = (
            nn.Sequential(
                nn.Linear(annotation, projection), nn.LayerNorm(projection), Dropout(dropout)
            )
            if projection
            else None
        )
        context = projection or annotation
        self.attention = build_attention(
            attention_kind,
            context,
            hidden,
            attention,
            embedding,
            nonlinearity=attention_nonlinearity,
            heads=heads,
            estimator=estimator,
            expectation=expectation,
            temperature=temperature,
        )
        self.beta = ContextGate(hidden, {"none": 0, "scalar": 1, "vector": context}[beta])
        self.init = InitialState(context, hidden, shared_init, CELLS[cell].keeps_cell)
        self.cell = CELLS[cell](embedding, context, hidden, forget_bias)
        self.output = DeepOutput(
            self.embedding, hidden, context, deep_output, output_tanh, tied_output, dropout
        )
        self.dropout = Dropout(dropout)
        self.feedback = 0.0  # in training, the probability that `forward` goes on from own words
        self.loop: Loop | None = None  # in the place of `recur`, where a gradient is wanted

    def remember(self, annotations: Tensor) -> Memory:
        """Everything about the images that no recurrence changes. annotations: (N, L, D)."""
        if self.projection is not None:
            annotations = self.projection(annotations)
        return self.attention.remember(for_products(annotations))

    def start(self, memory: Memory, captions: int = 1) -> State:
        """h_0 and c_0 for K captions of each image."""
        return self.init(memory.annotations, captions)

    def expect(self, words: float, locations: int) -> bool:
        """Gets ready for so many words, each at so many locations; whether it then goes faster."""
        additive = isinstance(self.attention, SoftAttention)
        return additive and self.attention.expect(words * locations)

    def read_ahead(self, memory: Memory, words: int) -> Memory:
        """The memory with T_z a_i and L_z a_i in the place of a_i, for all but `start`.

        Both maps are linear, so T_z ẑ_t = β_t Σ_i α_ti T_z a_i: a product for each of L locations,
        all at once, in the place of one for each word, of which all captions of an image have about
        `words`. Where that would be more, or not the same, the memory stays as it is.
        """
        if memory.annotations.shape[1] > words or not self._can_read_ahead():
            return memory
        readers = torch.cat([reader.weight for reader in self._readers()])
        return memory._replace(annotations=F.linear(memory.annotations, readers))

    def _can_read_ahead(self) -> bool:
        """Not if β is a vector, nor if the size of what is read would not tell it from ẑ_t."""
        sizes = [reader.out_features for reader in self._readers()]
        scalar = self.beta.gate is None or self.beta.gate.out_features == 1
        linear = getattr(self.attention, "linear", False)
        return scalar and linear and sum(sizes) != self.cell.context.in_features

    def _readers(self) -> list[nn.Linear]:
        """T_z, and L_z where there is one."""
        return [part for part in (self.cell.context, self.output.context) if part is not None]

    def _read(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """T_z ẑ_t, (…, 4H), and L_z ẑ_t, (…, E or 0), of ẑ_t or of what was read ahead."""
        readers = self._readers()
        sizes = [reader.out_features for reader in readers]
        if context.shape[-1] == sum(sizes):
            read = context.split(sizes, dim=-1)
        else:
            read = [reader(context) for reader in readers]
        return read[0], read[1] if len(read) > 1 else read[0][..., :0]

    def step(self, token: Tensor, state: State, memory: Memory) -> Step:
        """From the previous words y_{t-1}, (N, K) ids, to the scores of the next ones."""
        embedded, drive = self._embed(token)
        look, beta = self._look(embedded, state, memory)
        to_cell, to_output = self._read(look.context)
        state, gates = self.cell(drive, to_cell, state)
        trace = Trace(look.alpha, beta, *gates, state.cell, state.hidden)
        return Step(self.output(embedded, state.hidden, to_output), state, trace)

    def _embed(self, token: Tensor) -> tuple[Tensor, Tensor]:
        """E y_{t-1}, (…, E), and what the cell makes of it, (…, 4H).

        A search's captions mostly go on from the same few words. On a CPU each is taken once.
        """
        again = None
        if token.device.type == "cpu" and not self.training and not torch.compiler.is_compiling():
            token, again = token.unique(return_inverse=True)
        embedded = self.dropout(self.embedding(token))
        read = embedded, self.cell.embed(self.scale * embedded)
        return read if again is None else tuple(part[again] for part in read)

    def _look(self, embedded: Tensor, state: State, memory: Memory) -> tuple[Look, Tensor]:
        """Equations (4)–(6), with the context as β lets it through, and the β to show."""
        look = self.attention(state, embedded, memory)
        beta = self.beta(state.hidden)
        look = look._replace(context=beta * look.context)
        return look, beta if look.beta is None else look.beta

    def _spread(self, places: Places, word: Tensor, state: State) -> tuple[Tensor, State]:
        """A row for every caption, as attention takes them, of all that it looks with."""
        hidden = places.spread(state.hidden)
        if getattr(self.attention, "hidden_alone", False):
            return word, State(hidden, state.cell)
        return places.spread(word), State(hidden, places.spread(state.cell))

    def _fed_back(self, known: Tensor, word: Tensor, hidden: Tensor, context: Tensor) -> Tensor:
        """The `known` next words, (M,) ids, or, with probability `feedback`, own ones instead.

        word, hidden and context: what they are written from, as `output` takes it.
        """
        with torch.no_grad():
            logits = self.output(word, hidden, context).float()
            own = Categorical(logits=logits, validate_args=False).sample()
        return torch.where(torch.rand(own.shape, device=own.device) < self.feedback, own, known)

    def forward(self, tokens: Tensor, mask: Tensor, annotations: Tensor) -> Unrolled:
        """Unrolls `step` over known captions, with all that needs no recurrence outside the loop.

        tokens: (N, K, T) ids of the previous words, `<start>` first. mask: (N, K, T), true where
        there is a word to predict; along K it must not grow at any step, i.e. the captions of an
        image stand longest first. Attention, whose captions share an image's row, then looks for
        the leading columns still alive; all else is done for the real words of a step alone.

        In training a word before is, with probability `feedback`, not the known one but one that
        is drawn from the scores of the step before: scheduled sampling (Bengio et al. 2015).
        """
        memory = self.remember(annotations)
        words = self.dropout(self.embedding(in_order(tokens, mask)))
        drives = self.cell.embed(self.scale * words)
        state = self.start(memory, tokens.shape[1])
        memory = self.read_ahead(memory, 2 * tokens[0].numel() // 3)  # not all are the longest
        known = tokens if self.training and self.feedback > 0 else None
        if self.loop is not None and known is None and torch.is_grad_enabled():
            done = self.loop(words, drives, state, memory, mask)
        else:
            done = self.recur(words, drives, state, memory, places_of(mask), known)
        logits = self.output(done.words, done.hidden, done.context)
        return Unrolled(logits, attended(done.alpha, mask), done.draw, done.alpha)

    def recur(
        self,
        words: Tensor,
        drives: Tensor,
        state: State,
        memory: Memory,
        steps: list[Places],
        known: Tensor | None = None,
    ) -> Recurred:
        """What goes step by step: attention, β and the cell.

        words: E y_{t-1}, (M, E), and drives, what the cell makes of them, (M, 4H), step by step as
        `steps` have them. known: (N, K, T) the ids of these words, where own ones are fed back.
        """
        counts = [places.count for places in steps]
        read, words, drives = words, list(words.split(counts)), list(drives.split(counts))
        before = everyone(*state.hidden.shape[:2], state.hidden.device)
        state = State(*(part.flatten(0, 1) for part in state))
        hiddens, contexts, alphas, draws = [], [], [], []
        with unrolled(self):
            for t, places in enumerate(steps):
                lasting = places.lasting(before)
                if lasting is not None:
                    state = State(*(part[lasting] for part in state))
                before = places
                look, _ = self._look(*self._spread(places, words[t], state), memory)
                to_cell, to_output = self._read(places.pick(look.context))
                contexts.append(to_output)
                alphas.append(places.pick(look.alpha))
                if look.draw is not None:
                    draws.append(list(map(places.pick, look.draw)))
                state, _ = self.cell(drives[t], to_cell, state)
                hiddens.append(state.hidden)
                if known is not None and t + 1 < len(words):
                    lasting = steps[t + 1].among(places)
                    rows = (part[lasting] for part in (words[t], state.hidden, to_output))
                    own = self._fed_back(steps[t + 1].only(known[..., t + 1]), *rows)
                    words[t + 1] = self.dropout(self.embedding(own))
                    drives[t + 1] = self.cell.embed(self.scale * words[t + 1])
        draw = Draw(*map(torch.cat, zip(*draws, strict=True))) if draws else None
        read = read if known is None else torch.cat(words)
        return Recurred(read, *map(torch.cat, (hiddens, contexts, alphas)), draw)
