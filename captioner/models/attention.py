"""Soft attention: where to look before each word (Xu et al. 2015, sections 3.1.2 and 4.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NONLINEARITIES = {"tanh": torch.tanh, "relu": F.relu}


class Memory(NamedTuple):
    """What a decoder keeps of N images while it writes: computed once, read at every step."""

    annotations: Tensor  # (N, L, D)  a_i
    keys: Tensor  # (N, L, A)  W_a a_i, the part of f_att that no hidden state changes


class Look(NamedTuple):
    """One look at the annotations."""

    context: Tensor  # (N, K, D)  ẑ = Σ_i α_i a_i
    alpha: Tensor  # (N, K, L)  sums to one over L


def at_least_float32(values: Tensor) -> Tensor:
    """What autocast made half precision, in full again; double precision stays."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class SoftAttention(nn.Module):
    r"""Additive attention over annotation vectors, equations (4)–(6) with φ the expectation (13):

        e_ti = v · f(W_a a_i + W_h h_{t-1} + b),   α_t = softmax(e_t),   ẑ_t = Σ_i α_ti a_i

    The paper writes f_att only as a multilayer perceptron; f = tanh is the authors' code, f = relu
    a common variant. There is no bias behind v, which the softmax would cancel.

    K captions (or beams) of one image share that image's row: nothing is copied per caption.
    """

    def __init__(self, annotation: int, hidden: int, attention: int, nonlinearity: str = "tanh"):
        super().__init__()
        self.key = nn.Linear(annotation, attention, bias=False)  # W_a
        self.query = nn.Linear(hidden, attention)  # W_h, b
        self.score = nn.Linear(attention, 1, bias=False)  # v
        nn.init.normal_(self.score.weight, std=2 * attention**-0.5)  # so that α differs at once
        self.nonlinearity = NONLINEARITIES[nonlinearity]

    def remember(self, annotations: Tensor) -> Memory:
        """The products that do not depend on the recurrence. annotations: (N, L, D)."""
        return Memory(annotations, self.key(annotations))

    def forward(self, hidden: Tensor, memory: Memory) -> Look:
        """hidden: h_{t-1}, (N, K, H)."""
        query = self.query(hidden)[:, :, None]  # (N, K, 1, A)
        scores = self.score(self.nonlinearity(memory.keys[:, None] + query)).squeeze(-1)
        alpha = at_least_float32(scores).softmax(-1)  # (N, K, L)
        return Look(alpha.to(memory.annotations.dtype) @ memory.annotations, alpha)
