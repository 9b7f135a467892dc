"""Averaged weights: the mean of where training has lately been is better than where it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class AveragedWeights:
    """An exponential moving average of a model's trained weights (Polyak and Juditsky 1992).

    Early on the average forgets faster, as (1 + updates) / (10 + updates), or it would hold on to
    the random start.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.live = [p for p in model.parameters() if p.requires_grad]
        self.mean = [p.detach().clone() for p in self.live]

    @torch.no_grad()
    def update(self, updates: int) -> None:
        decay = min(self.decay, (1 + updates) / (10 + updates))
        torch._foreach_lerp_(self.mean, self.live, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model computes with the averages, and `mean` holds the others."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state(self) -> dict[str, Tensor]:
        """The weights that are not averaged, for a checkpoint whose model holds the averages."""
        return {f"live.{i}": live.detach().clone() for i, live in enumerate(self.live)}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Undoes that: the model holds the averages, and gets the weights of `state`."""
        for i, (live, mean) in enumerate(zip(self.live, self.mean, strict=True)):
            mean.copy_(live)
            live.copy_(state[f"live.{i}"])

    @torch.no_grad()
    def _swap(self) -> None:
        for live, mean in zip(self.live, self.mean, strict=True):
            kept = live.clone()
            live.copy_(mean)
            mean.copy_(kept)
