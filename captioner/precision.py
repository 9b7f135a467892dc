"""Which numbers are in half precision under autocast, and which stay in full."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn


def at_least_float32(values: Tensor) -> Tensor:
    """What autocast made half precision, in full again; double precision stays."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def for_products(values: Tensor) -> Tensor:
    """What many products will read, as autocast would make it for each of them anew."""
    device = values.device.type
    if not torch.is_autocast_enabled(device):
        return values
    return values.to(torch.get_autocast_dtype(device))


def lower(module: nn.Module) -> None:
    """Makes its linear maps and convolutions bfloat16, as autocast would for each product anew."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d)):
            part.to(torch.bfloat16)


def products(device: torch.device, half: bool) -> torch.autocast:
    """The block in which products are in bfloat16, or as they come."""
    return torch.autocast(device.type, torch.bfloat16, enabled=half)


def without_autocast(device: torch.device) -> AbstractContextManager[None]:
    """Products within the block keep the precision of what they are given."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
