"""How large a step each update takes."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn


def learning_rate(progress: float, warmup: float, schedule: str) -> float:
    """Factor on the peak rate after a fraction `progress` of all updates: up, then down to 0."""
    if progress < warmup:
        return progress / warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Gives each group its `peak` rate times the factor; returns that of the first."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    return optimizer.param_groups[0]["lr"]


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> float:
    """Scales gradients whose norm over all is larger down to it; returns what it was.

    `nn.utils.clip_grad_norm_` reads and writes them all even where there is nothing to scale.
    """
    learnt = [parameter for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in learnt])
    if norm > largest:
        nn.utils.clip_grads_with_norm_(learnt, largest, norm)
    return float(norm)
