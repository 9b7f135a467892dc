"""Soft attention: where to look before each word (Xu et al. 2015, sections 3.1.2 and 4.2).

The other kinds, behind the same two methods, are in hard.py, heads.py and adaptive.py.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captioner.models.additive import fuse_for, growth, tanh_scores
from captioner.models.lstm import State
from captioner.models.unrolled import StepLinear, StepSum
from captioner.precision import at_least_float32

NONLINEARITIES = {"tanh": torch.tanh, "relu": F.relu}


class Memory(NamedTuple):
    """What a decoder keeps of N images while it writes: computed once, read at every step.

    A kind of attention that keeps other things has a tuple of its own. In each, the annotations
    come first and every part has a row per image.
    """

    annotations: Tensor  # (N, L, D)  a_i
    keys: Tensor  # (N, L, A)  W_a a_i, the part of f_att that no hidden state changes, for `scores`


class Draw(NamedTuple):
    """What REINFORCE learns from where locations are drawn at random."""

    log_prob: Tensor  # (N, K)  log α_ti of the location i that was drawn; 0 where none was
    entropy: Tensor  # (N, K)  H[s_t] = −Σ_i α_ti log α_ti, in nats


class Look(NamedTuple):
    """One look at the annotations."""

    context: Tensor  # (N, K, D)  ẑ = Σ_i α_i a_i
    alpha: Tensor  # (N, K, L)  sums to one over L
    beta: Tensor | None = None  # (N, K, 1)  share of the image in ẑ, where attention itself says
    draw: Draw | None = None


class SoftAttention(nn.Module):
    r"""Additive attention over annotation vectors, equations (4)–(6) with φ the expectation (13):

        e_ti = v · f(W_a a_i + W_h h_{t-1} + b),   α_t = softmax(e_t),   ẑ_t = Σ_i α_ti a_i

    The paper writes f_att only as a multilayer perceptron; f = tanh is the authors' code, f = relu
    a common variant. There is no bias behind v, which the softmax would cancel.

    K captions (or beams) of one image share that image's row: nothing is copied per caption.
    """

    hidden_alone = True  # is what it looks with: neither c_{t-1} nor the word before
    linear = True  # ẑ_t is, in the annotations: what is linear itself may be done to them instead

    def __init__(self, annotation: int, hidden: int, attention: int, nonlinearity: str = "tanh"):
        super().__init__()
        self.read = StepSum()
        self.key = nn.Linear(annotation, attention, bias=False)  # W_a
        self.query = StepLinear(hidden, attention)  # W_h, b
        self.score = nn.Linear(attention, 1, bias=False)  # v
        nn.init.normal_(self.score.weight, std=2 * attention**-0.5)  # so that α differs at once
        self.nonlinearity = NONLINEARITIES[nonlinearity]

    def remember(self, annotations: Tensor) -> Memory:
        """The products that do not depend on the recurrence. annotations: (N, L, D)."""
        return Memory(annotations, self.ready(self.key(annotations)))

    def forward(self, state: State, embedded: Tensor, memory: Memory) -> Look:
        """state: h_{t-1} and c_{t-1}, each (N, K, H); embedded: E y_{t-1}, (N, K, E).

        That is all there is to look with before a word; most kinds use h_{t-1} alone.
        """
        alpha = self.scores(self.query(state.hidden), memory.keys[:, None]).softmax(-1)
        return Look(self.read(alpha, memory.annotations), alpha)

    def expect(self, looks: float) -> bool:
        """Gets ready to look at locations so many times. Whether `additive.fuse` was worth it."""
        v = self.score.weight
        return self.nonlinearity is torch.tanh and fuse_for(looks * v.numel(), v.device)

    def ready(self, keys: Tensor) -> Tensor:
        """Keys as `scores` takes them: for a tanh their growth, which is the same at every step."""
        return growth(keys) if self.nonlinearity is torch.tanh else keys

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """e_t, (N, K, L), of W_h h_{t-1} + b, (N, K, A), to `ready` keys, (N, 1 or K, L, A)."""
        if self.nonlinearity is torch.tanh:
            return tanh_scores(query, keys, self.score.weight[0])
        scores = self.score(self.nonlinearity(keys + query[:, :, None])).squeeze(-1)
        return at_least_float32(scores)


class MeanMemory(NamedTuple):
    annotations: Tensor  # (N, L, D)
    mean: Tensor  # (N, 1, D)


class NoAttention(nn.Module):
    """The mean annotation vector before every word, all locations alike: what attention must beat.

    The decoder then sees one vector per image, as in Vinyals et al. 2015, though at each step.
    """

    hidden_alone = True

    def remember(self, annotations: Tensor) -> MeanMemory:
        """annotations: (N, L, D)."""
        return MeanMemory(annotations, annotations.mean(1, keepdim=True))

    def forward(self, state: State, embedded: Tensor, memory: MeanMemory) -> Look:
        """As `SoftAttention.forward`."""
        captions, locations = state.hidden.shape[1], memory.annotations.shape[1]
        images = memory.mean.shape[0]  # len() would be a constant in an exported graph
        alpha = state.hidden.new_full((images, captions, locations), 1 / locations)
        return Look(memory.mean.expand(-1, captions, -1), alpha)
