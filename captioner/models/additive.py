"""The scores of additive attention, v · tanh(k + q), with no tanh of each pair of k and q."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from captioner.precision import at_least_float32, without_autocast

LARGEST = 40.0
"""Of |k| and |q|; what is larger counts as this, so that no e^{2k} is zero or infinite. By then the
tanh is ±1, unless both are as large and of opposite signs, which no trained weights come near."""
PAIRS_AT_ONCE = 2**19
"""Of numbers r that a CPU makes together. These 2 MB stay in its caches from one operation to the
next; the scores of a search, whose r take 16 MB, came out twice as fast for it."""
WORTHWHILE = 2e10
"""Pairs of numbers of keys and queries for which a compiled pass is made. Scores and gradients of
so many take about a minute without it, and a quarter of that with it."""


def growth(values: Tensor) -> Tensor:
    """e^{2x}, in full precision: half has too few digits for it, and is slower on a CPU."""
    return at_least_float32(values).clamp(-LARGEST, LARGEST).mul_(2).exp_()


def tanh_scores(query: Tensor, grown: Tensor, v: Tensor) -> Tensor:
    r"""e = Σ_a v_a tanh(k_a + q_a), (N, K, L), of q (N, K, A), v (A,) and the `growth` of k.

    grown: e^{2k}, (N, 1 or K, L, A), which need be taken but once for keys that do not change.

    With r = 1 / (1 + e^{2k} e^{2q}), tanh(k + q) is 1 − 2r: an exponential for each k and each q,
    and for each pair only a product, a sum and a reciprocal, which are far faster than a tanh. For
    a gradient g at e, with s = r − r²,

        ∂L/∂v = Σ_kl g (1 − 2r),   ∂L/∂q = 4v ⊙ Σ_l g s,   ∂L/∂e^{2k} = 2v ⊙ Σ_k g s / e^{2k}

    where r is computed once more, which is faster than to keep it, and saves the memory.
    """
    return _Scores.apply(query, grown, at_least_float32(v))


_fused: list[Callable] = []  # `_scores` and `_gradients`, once they are compiled


def fuse() -> bool:
    """Has this process take scores on a CPU, and their gradients, in one pass over all pairs.

    `torch.compile` makes the pass from the formulas: a few seconds, the first time on a machine
    some twenty. Gives False where it can't, as without a C++ compiler or with an older torch;
    pairs then go on being taken a few images at a time.
    """
    if not _fused:
        # It looks for CUDA, and says so aloud where there is none.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        once = {"dynamic": True, "recompile_limit": 64}  # one caption, several, with gradients, …
        query, keys, v = torch.ones(2, 2, 64), torch.ones(2, 1, 49, 64), torch.ones(64)
        try:
            compiled = [torch.compile(part, **once) for part in (_scores, _gradients)]
            compiled[0](query, keys, v)
            compiled[1](query, keys, v, torch.ones(2, 2, 49))
        except (RuntimeError, TypeError):
            return False
        _fused.extend(compiled)
    return True


def fuse_for(pairs: float, device: torch.device) -> bool:
    """The same, if it is worth the time for so many pairs of numbers k_a and q_a."""
    return device.type == "cpu" and pairs > WORTHWHILE and fuse()


def ways(values: Tensor) -> list[Callable]:
    """How to take the scores, and how their gradients, where such keys and queries are.

    The first is called with e^{2q}, e^{2k} and v of `tanh_scores`, and gives e. The second also
    with the gradient at e, and gives those at q, e^{2k} and v.
    """
    cpu = values.device.type == "cpu" and values.dtype == torch.float32
    if _fused and cpu and not torch.compiler.is_compiling():  # which an exported graph would be
        return _fused
    return [_scores_by_few, _gradients_by_few]


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, query: Tensor, keys: Tensor, v: Tensor) -> Tensor:
        query = growth(query)
        ctx.save_for_backward(query, keys, v)
        with without_autocast(query.device):
            return ways(query)[0](query, keys, v)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, keys, v = ctx.saved_tensors
        return ways(query)[1](query, keys, v, gradient)


def _r(query: Tensor, keys: Tensor) -> Tensor:
    """(N, K, L, A), of e^{2q} and e^{2k}."""
    return torch.addcmul(keys.new_ones(()), keys, query[:, :, None]).reciprocal_()


def _scores(query: Tensor, keys: Tensor, v: Tensor) -> Tensor:
    return v.sum() - 2 * (_r(query, keys) * v).sum(-1)


def _gradients(
    query: Tensor, keys: Tensor, v: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    r = _r(query, keys)
    of_r = gradient[..., None] * r
    of_s = of_r - of_r * r
    return (
        4 * v * of_s.sum(2),
        2 * v * of_s.sum_to_size(keys.shape) / keys,
        gradient.sum() - 2 * of_r.sum((0, 1, 2)),
    )


def _few(query: Tensor, keys: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """All of them, each (N, …), for few images at a time.

    A graph that is exported, whose number of images is open, and a GPU take all at once.
    """
    values = (query, keys, *others)
    if query.device.type != "cpu" or torch.compiler.is_compiling():
        return iter([values])
    pairs = query.shape[1] * keys.shape[2] * keys.shape[3]  # none where no caption has a word left
    images = max(1, PAIRS_AT_ONCE // max(1, pairs))
    return zip(*(each.split(images) for each in values), strict=True)


def _scores_by_few(query: Tensor, keys: Tensor, v: Tensor) -> Tensor:
    return v.sum() - 2 * torch.cat([_r(*few) @ v for few in _few(query, keys)])


def _gradients_by_few(
    query: Tensor, keys: Tensor, v: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    sums = (_sums(*few) for few in _few(query, keys, gradient))
    of_query, of_keys, of_v = zip(*sums, strict=True)
    return (
        4 * v * torch.cat(of_query),
        2 * v * torch.cat(of_keys) / keys,
        gradient.sum() - 2 * sum(of_v),
    )


def _sums(query: Tensor, keys: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Σ_l g s, Σ_k g s and Σ_kl g r."""
    r = _r(query, keys)
    of_v = gradient.flatten() @ r.flatten(0, 2)
    s = r.addcmul_(r, r, value=-1)
    of_query = (gradient[:, :, None] @ s).squeeze(2)
    return of_query, s.mul_(gradient[..., None]).sum_to_size(keys.shape), of_v
