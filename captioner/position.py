"""How far training has come, and what it summed up on the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

COUNTS = ("words", "captions", "named")  # words `named` have known regions
PER = {"loss": "words", "grounding": "named"}


def added(parts: Iterable[dict[str, float]]) -> dict[str, float]:
    """The sums, name by name."""
    total: dict[str, float] = {}
    for part in parts:
        total |= {name: total.get(name, 0.0) + value for name, value in part.items()}
    return total


def means(sums: dict[str, float]) -> dict[str, float]:
    """Each sum per so many as `PER` says, of which there must be some; else per caption."""
    counts = {name: sums.get(PER.get(name, "captions"), 0) for name in sums if name not in COUNTS}
    return {name: sums[name] / count for name, count in counts.items() if count}


@dataclass
class Tally:
    """Sums over the updates of one epoch, over all processes."""

    sums: dict[str, float] = field(default_factory=dict)  # as `means` takes them
    seconds: float = 0

    def means(self) -> dict[str, float]:
        """Of no update, where all were skipped, the speed alone."""
        speed = self.sums.get("captions", 0.0) / max(1e-9, self.seconds)
        return {**(means(self.sums) if self.sums else {}), "captions_per_second": speed}


@dataclass
class Position:
    """How far training has come."""

    epoch: int = 0  # epochs completed
    update: int = 0  # updates within the current epoch
    updates: int = 0  # updates in all
    best: float = -1.0  # highest validation score so far
    worse: int = 0  # validations since
    baseline: float = 0.0  # b of section 4.1, per word
    skipped: int = 0  # updates left out in all, for a loss or a gradient that is no number
    in_a_row: int = 0  # likewise, since the last that was learnt from
    seconds: float = 0.0  # of training and validation, over all resumptions
    tally: Tally = field(default_factory=Tally)
