"""The scores of additive attention, v · tanh(k + q), with no tanh of each pair of k and q."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

LARGEST = 40.0
"""Of |k| and |q|; what is larger counts as this, so that no e^{2k} is zero or infinite. By then the
tanh is ±1, unless both are as large and of opposite signs, which no trained weights come near."""


def tanh_scores(query: Tensor, keys: Tensor, v: Tensor) -> Tensor:
    r"""e = Σ_a v_a tanh(k_a + q_a), (N, K, L), of q (N, K, A), k (N, 1 or K, L, A) and v (A,).

    With r = 1 / (1 + e^{2k} e^{2q}), tanh(k + q) is 1 − 2r: an exponential for each k and each q,
    and for each pair only a product, a sum and a reciprocal, which are far faster than a tanh. For
    a gradient g at e, with s = r − r²,

        ∂L/∂v = Σ_kl g (1 − 2r),   ∂L/∂q = 4v ⊙ Σ_l g s,   ∂L/∂k = 4v ⊙ Σ_k g s

    where r is computed once more, which is faster than to keep it, and saves the memory.
    """
    return _Scores.apply(query, keys, v)


def _growth(values: Tensor) -> Tensor:
    """e^{2x}."""
    return values.clamp(-LARGEST, LARGEST).mul_(2).exp_()


def _r(query: Tensor, keys: Tensor) -> Tensor:
    """(N, K, L, A), of e^{2q} and e^{2k}."""
    return (keys * query[:, :, None]).add_(1).reciprocal_()


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, query: Tensor, keys: Tensor, v: Tensor) -> Tensor:
        query, keys = _growth(query), _growth(keys)
        ctx.save_for_backward(query, keys, v)
        return v.sum() - 2 * (_r(query, keys) @ v)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, keys, v = ctx.saved_tensors
        r = _r(query, keys)
        of_v = gradient.sum() - 2 * (gradient.flatten() @ r.flatten(0, 2))
        s = r.addcmul_(r, r, value=-1)
        of_query = 4 * v * (gradient[:, :, None] @ s).squeeze(2)
        of_keys = 4 * v * s.mul_(gradient[..., None]).sum_to_size(keys.shape)
        return of_query, of_keys, of_v
