"""Attention with several heads, each of which looks somewhere else."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from captioner.models.attention import NONLINEARITIES, Look
from captioner.models.lstm import State
from captioner.models.unrolled import StepLinear
from captioner.precision import at_least_float32


class HeadMemory(NamedTuple):
    """J heads share the sizes A and D out among themselves."""

    annotations: Tensor  # (N, L, D)
    keys: Tensor  # (N, J, L, A / J)
    values: Tensor  # (N, J, L, D / J)


class DotAttention(nn.Module):
    r"""Scaled dot-product attention with J heads (Vaswani et al. 2017, sections 3.2.1 and 3.2.2):

        α^j_t = softmax(K^j a_i · (Q^j h_{t-1} + b^j) / √(A / J)),   ẑ_t = [Σ_i α^j_ti V^j a_i]_j

    There is no output matrix W^O: what reads ẑ_t, T_z and L_z, is affine in it. The α that is shown
    (and that the penalty of equation (14) sees) is the mean over heads.
    """

    hidden_alone = True

    def __init__(self, annotation: int, hidden: int, attention: int, heads: int = 1):
        """Raises ValueError where the heads can't share A and D out evenly."""
        super().__init__()
        if attention % heads or annotation % heads:
            raise ValueError(
                f"decoder.heads is {heads}; it must divide decoder.attention, {attention}, and the "
                f"size of the annotations, {annotation} (that is decoder.projection, where given)"
            )
        self.key = nn.Linear(annotation, attention, bias=False)  # K
        self.value = nn.Linear(annotation, annotation, bias=False)  # V
        self.query = StepLinear(hidden, attention)  # Q, b
        self.heads = heads

    def remember(self, annotations: Tensor) -> HeadMemory:
        """As `SoftAttention.remember`."""
        keys, values = self.key(annotations), self.value(annotations)
        return HeadMemory(annotations, self._share(keys), self._share(values))

    def forward(self, state: State, embedded: Tensor, memory: HeadMemory) -> Look:
        """As `SoftAttention.forward`."""
        query = self._share(self.query(state.hidden))  # (N, J, K, A / J)
        alpha = at_least_float32(self.scores(query, memory.keys)).softmax(-1)  # (N, J, K, L)
        context = alpha.to(memory.values.dtype) @ memory.values
        return Look(context.transpose(1, 2).flatten(2), alpha.mean(1))

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """e^j_ti, (N, J, K, L)."""
        return query @ keys.mT / math.sqrt(query.shape[-1])

    def _share(self, values: Tensor) -> Tensor:
        """(N, ·, S) → (N, J, ·, S / J)."""
        return values.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class MultiHeadAttention(DotAttention):
    r"""The additive attention of `SoftAttention` with J heads, each with values of its own:

        e^j_ti = v^j · f(W_a^j a_i + W_h^j h_{t-1} + b^j)

    and the rest as in `DotAttention`. With one head it is soft attention to V a_i.
    """

    def __init__(
        self,
        annotation: int,
        hidden: int,
        attention: int,
        nonlinearity: str = "tanh",
        heads: int = 1,
    ):
        super().__init__(annotation, hidden, attention, heads)
        self.score = nn.Linear(attention // heads, heads, bias=False)  # v^1 … v^J
        self.nonlinearity = NONLINEARITIES[nonlinearity]

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """As `DotAttention.scores`."""
        bent = self.nonlinearity(keys[:, :, None] + query[:, :, :, None])  # (N, J, K, L, A / J)
        return torch.einsum("njkla,ja->njkl", bent, self.score.weight)
