"""How large a step each update takes."""

from __future__ import annotations

import math

import torch


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
