"""Linear maps inside a recurrence, whose weight gradient is one product for all its steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

Pairs = list[tuple[Tensor, Tensor]]
"""Of each step the inputs x_t, (…, inputs), and the gradients g_t at the outputs, (…, outputs)."""


class StepLinear(nn.Linear):
    r"""`nn.Linear` for a recurrence: within `unrolled` its gradient is the same, for less.

    Of T steps, autograd takes T gradients g_tᵀ x_t and adds them up: T products too thin to be
    fast, and T passes over a matrix as large as the weight. Here x_t and g_t are kept, and
    ∂L/∂W = Σ_t g_tᵀ x_t is one product of all of them stacked.
    """

    shared: tuple[Tensor, Tensor | None, Pairs] | None = None  # within `unrolled`

    def forward(self, inputs: Tensor) -> Tensor:
        if self.shared is None:
            return super().forward(inputs)
        return _Product.apply(inputs, *self.shared)


@contextmanager
def unrolled(module: nn.Module) -> Iterator[None]:
    """Within the block, each `StepLinear` of the module is about to be used many times.

    The gradients can be taken after the block, once.
    """
    maps = [part for part in module.modules() if isinstance(part, StepLinear)]
    if torch.is_grad_enabled():
        for each in maps:
            pairs: Pairs = []
            each.shared = (*_Weights.apply(each.weight, each.bias, pairs), pairs)
    try:
        yield
    finally:
        for each in maps:
            each.shared = None


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
        return tuple(part if part is None else part.to(dtype, copy=True) for part in (weight, bias))

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *_: None) -> tuple[Tensor | None, Tensor | None, None]:
        if not ctx.pairs:  # no step's output mattered
            return None, None, None
        inputs, gradients = (torch.cat(parts) for parts in zip(*ctx.pairs, strict=True))
        ctx.pairs.clear()
        weight = (gradients.T @ inputs).to(ctx.dtype)
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
        return F.linear(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        inputs, weight = ctx.saved_tensors
        ctx.pairs.append((inputs.flatten(0, -2), gradient.flatten(0, -2)))
        return (gradient @ weight).to(ctx.dtype), None, None, None
