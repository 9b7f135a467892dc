"""Linear maps inside a recurrence, whose gradients are one product for all its steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

Pairs = list[tuple[Tensor, Tensor]]
"""Of each step the inputs x_t, (…, rows, inputs), and the gradients g_t at the outputs."""


class _Stepwise(nn.Module):
    r"""Products with a matrix W that, within `unrolled`, is the same at all steps.

    Of T steps, autograd takes T gradients g_tᵀ x_t and adds them up: T products too thin to be
    fast, and T passes over a matrix as large as W. Here x_t and g_t are kept, and
    ∂L/∂W = Σ_t g_tᵀ x_t is one product of all of them stacked.
    """

    unrolled = False
    shared: tuple[Tensor, Tensor | None, Pairs] | None = None  # W and b, from the first step on

    def product(self, inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if self.shared is None:
            pairs: Pairs = []
            self.shared = (*_Weights.apply(weight, bias, pairs), pairs)
        return _Product.apply(inputs, *self.shared)


class StepLinear(_Stepwise, nn.Linear):
    """`nn.Linear` for a recurrence: within `unrolled` its gradient is the same, for less."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, inputs) → (…, outputs)."""
        if not self.unrolled:
            return super().forward(inputs)
        return self.product(inputs, self.weight, self.bias)


class StepSum(_Stepwise):
    """ẑ_t = Σ_i α_ti a_i for a recurrence: the a_i of each image are a matrix as well."""

    def forward(self, weights: Tensor, annotations: Tensor) -> Tensor:
        """(N, K, L), (N, L, D) → (N, K, D)."""
        if not self.unrolled:
            return weights.to(annotations.dtype) @ annotations
        return self.product(weights, annotations.mT)


@contextmanager
def unrolled(module: nn.Module) -> Iterator[None]:
    """Within the block, parts of the module as above are about to be used at many steps.

    Each with one matrix, the first that it meets. The gradients can be taken after the block, once.
    """
    parts = [part for part in module.modules() if isinstance(part, _Stepwise)]
    for part in parts:
        part.unrolled = torch.is_grad_enabled()
    try:
        yield
    finally:
        for part in parts:
            part.unrolled, part.shared = False, None


class _Weights(torch.autograd.Function):
    """The weights as they are; the backward pass comes here when it is through with all steps."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, weight: Tensor, bias: Tensor | None, pairs: Pairs
    ) -> tuple[Tensor, Tensor | None]:
        ctx.pairs, ctx.dtype, ctx.biased = pairs, weight.dtype, bias is not None
        ctx.set_materialize_grads(False)
        device = weight.device.type
        dtype = weight.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        parts = (weight, bias)
        return tuple(part if part is None else part.view_as(part).to(dtype) for part in parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *_: None) -> tuple[Tensor | None, Tensor | None, None]:
        if not ctx.pairs:  # no step's output mattered
            return None, None, None
        inputs, gradients = (torch.cat(parts, dim=-2) for parts in zip(*ctx.pairs, strict=True))
        ctx.pairs.clear()
        weight = (gradients.mT @ inputs).to(ctx.dtype)
        return weight, gradients.sum(0, dtype=ctx.dtype) if ctx.biased else None, None


class _Product(torch.autograd.Function):
    """One step's W x_t + b."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, inputs: Tensor, weight: Tensor, bias: Tensor | None, pairs: Pairs
    ) -> Tensor:
        ctx.pairs, ctx.dtype = pairs, inputs.dtype
        inputs = inputs.to(weight.dtype)
        ctx.save_for_backward(inputs, weight)
        return F.linear(inputs, weight, bias) if weight.ndim == 2 else inputs @ weight.mT

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        inputs, weight = ctx.saved_tensors
        if ctx.needs_input_grad[1]:
            pair = (inputs, gradient)
            ctx.pairs.append(pair if weight.ndim > 2 else tuple(x.flatten(0, -2) for x in pair))
        return (gradient @ weight).to(ctx.dtype), None, None, None
