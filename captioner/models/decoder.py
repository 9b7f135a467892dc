"""The decoder: attention, gate, LSTM and deep output, word by word (Xu et al. 2015, 3.1.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from captioner.models.attention import Draw, Look, Memory
from captioner.models.cells import CELLS
from captioner.models.kinds import build_attention
from captioner.models.lstm import State
from captioner.models.parts import ContextGate, DeepOutput, Dropout, InitialState
from captioner.models.ragged import Rows, attended, in_order
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


class Moment(NamedTuple):
    """What the loop over the words of known captions found at a step, or, picked, for M words."""

    hidden: Tensor  # (N, K, H) or (M, H) h_t
    context: Tensor  # (N, K, E) or (M, E) L_z ẑ_t, behind β; of size 0 where there is no L_z
    alpha: Tensor  # (N, K, L) or (M, L) α_t
    draw: Draw | None = None


Loop = Callable[[Tensor, Tensor, State, Memory, Tensor], Moment]
"""(words (M, E), drives (M, 4H), state, memory, mask (N, K, T)) → what M words bring."""


def joined(moments: Sequence[Moment], join: Callable[[Sequence[Tensor]], Tensor]) -> Moment:
    """Each part of all steps, put together by `join`."""
    *parts, draws = zip(*moments, strict=True)
    draw = None if None in draws else Draw(*map(join, zip(*draws, strict=True)))
    return Moment(*map(join, parts), draw)


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
        self.graphed: Loop | None = None  # in the place of `recur`, where a gradient is wanted

    def remember(self, annotations: Tensor) -> Memory:
        """Everything about the images that no recurrence changes. annotations: (N, L, D)."""
        if self.projection is not None:
            annotations = self.projection(annotations)
        return self.attention.remember(for_products(annotations))

    def start(self, memory: Memory, captions: int = 1) -> State:
        """h_0 and c_0 for K captions of each image."""
        return self.init(memory.annotations, captions)

    def read_ahead(self, memory: Memory, words: int) -> Memory:
        """The memory with T_z a_i and L_z a_i in the place of a_i, for all but `start`.

        Both maps are linear, so T_z ẑ_t = β_t Σ_i α_ti T_z a_i: a product for each of L locations,
        all at once, in the place of one for each word, of which all captions of an image have about
        `words`. Where that would be more, or not the same, the memory stays as it is.
        """
        if memory.annotations.shape[1] > words or not self._can_read_ahead():
            return memory
        read = torch.cat([reader(memory.annotations) for reader in self._readers()], dim=-1)
        return memory._replace(annotations=read)

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
        embedded = self.dropout(self.embedding(token))
        look, beta = self._look(embedded, state, memory)
        to_cell, to_output = self._read(look.context)
        state, gates = self.cell(self.cell.embed(self.scale * embedded), to_cell, state)
        trace = Trace(look.alpha, beta, *gates, state.cell, state.hidden)
        return Step(self.output(embedded, state.hidden, to_output), state, trace)

    def _look(self, embedded: Tensor, state: State, memory: Memory) -> tuple[Look, Tensor]:
        """Equations (4)–(6), with the context as β lets it through, and the β to show."""
        look = self.attention(state, embedded, memory)
        beta = self.beta(state.hidden)
        look = look._replace(context=beta * look.context)
        return look, beta if look.beta is None else look.beta

    def _fed_back(self, known: Tensor, word: Tensor, hidden: Tensor, context: Tensor) -> Tensor:
        """The `known` next words, (N, K) ids, or, with probability `feedback`, own ones instead.

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
        image stand longest first. The loop goes through the leading columns still alive; all that
        stands outside is done for real words alone.

        In training a word before is, with probability `feedback`, not the known one but one that
        is drawn from the scores of the step before: scheduled sampling (Bengio et al. 2015).
        """
        memory = self.remember(annotations)
        words = self.dropout(self.embedding(in_order(tokens, mask)))
        drives = self.cell.embed(self.scale * words)
        state = self.start(memory, tokens.shape[1])
        memory = self.read_ahead(memory, 2 * tokens[0].numel() // 3)  # not all are the longest
        fed_back = self.training and self.feedback > 0
        if self.graphed is not None and not fed_back and torch.is_grad_enabled():
            done = self.graphed(words, drives, state, memory, mask)
        else:
            rows = Rows(mask)
            steps, drives = rows.spread(words), rows.spread(drives)
            moments = self.recur(steps, drives, state, memory, tokens if fed_back else None)
            done = joined(moments, rows.pick)
            words = rows.pick(steps) if fed_back else words
        logits = self.output(words, done.hidden, done.context)
        return Unrolled(logits, attended(done.alpha, mask), done.draw, done.alpha)

    def recur(
        self,
        words: list[Tensor],
        drives: list[Tensor],
        state: State,
        memory: Memory,
        known: Tensor | None = None,
    ) -> list[Moment]:
        """What goes step by step: attention, β and the cell, for the leading K_t columns.

        words: of each step E y_{t-1}, (N, K_t, E), and drives, what the cell makes of them,
        (N, K_t, 4H). known: (N, K, T) the ids of these words, where own ones are to be fed back;
        they then stand in the lists.
        """
        moments = []
        with unrolled(self):
            for t, word in enumerate(words):
                state = State(*(part[:, : word.shape[1]] for part in state))
                look, _ = self._look(word, state, memory)
                to_cell, to_output = self._read(look.context)
                state, _ = self.cell(drives[t], to_cell, state)
                moments.append(Moment(state.hidden, to_output, look.alpha, look.draw))
                if known is not None and t + 1 < len(words):
                    lasting = words[t + 1].shape[1]
                    rows = (part[:, :lasting] for part in (word, state.hidden, to_output))
                    own = self._fed_back(known[:, :lasting, t + 1], *rows)
                    words[t + 1] = self.dropout(self.embedding(own))
                    drives[t + 1] = self.cell.embed(self.scale * words[t + 1])
        return moments
