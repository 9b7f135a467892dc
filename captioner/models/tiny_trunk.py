"""The trunk that learns to see generated scenes, from nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Tiny(nn.Sequential):
    """A small CNN of stride 8 that learns to see coloured shapes from nothing in minutes.

    A location sees 42 pixels square, so that objects beside the one that is looked at can be
    counted. Even kernels keep that square around the location's own cell, where odd ones would move
    it up and left by half a stride. The last two channels are coordinates, added so late that the
    mean annotation tells what is there but not where. There is no normalisation: with the
    initialisation of He et al. 2015 these pictures are learnt faster without, and no image's
    features depend on another's.
    """

    def __init__(self, width: int = 128):
        super().__init__(
            *self._convolution(3, width // 4, 4, stride=2, padding=1),
            *self._convolution(width // 4, width // 2, 2, stride=2),
            *self._convolution(width // 2, width, 2, stride=2),
            *self._convolution(width, width, 3, padding=1),
            *self._convolution(width, width, 3, padding=1),
            Coordinates(),
        )

    @staticmethod
    def _convolution(
        inputs: int, outputs: int, size: int, stride: int = 1, padding: int = 0
    ) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, size, stride, padding)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.zeros_(convolution.bias)
        return [convolution, nn.ReLU()]


class Coordinates(nn.Module):
    """Adds two channels, x and y from −1 to 1 (Liu et al. 2018, CoordConv)."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, D, H, W) → (N, D + 2, H, W)."""
        count, _, height, width = features.shape
        y = torch.linspace(-1, 1, height, device=features.device, dtype=features.dtype)
        x = torch.linspace(-1, 1, width, device=features.device, dtype=features.dtype)
        grid = torch.stack(torch.meshgrid(y, x, indexing="ij")).expand(count, -1, -1, -1)
        return torch.cat([features, grid], dim=1)
