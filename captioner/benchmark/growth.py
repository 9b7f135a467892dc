"""How time per caption and memory grow with each size, the others staying as they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from captioner.benchmark.contests import Contest, beam_search
from captioner.benchmark.timing import Spread, alternate
from captioner.benchmark.updates import training
from captioner.build import has_fast_bf16
from captioner.config import BenchmarkOptions, SizeOptions
from captioner.progress import track
from captioner.visualize.curves import save_curves

LABELS = {
    "vocabulary": "words in the vocabulary",
    "locations": "locations",
    "captions": "captions in an update",
    "batch": "images searched together",
    "width": "width of the beam",
    "images": "images searched",
}
GROWS = {
    "training": ("vocabulary", "locations", "captions"),
    "search": ("vocabulary", "locations", "batch", "width", "images"),
}


def _training(sizes: SizeOptions, device: torch.device) -> Contest:
    """In the precision that training has by default."""
    return training(sizes, ["bfloat16" if has_fast_bf16(device) else "float32"], device)


def _search(sizes: SizeOptions, device: torch.device) -> Contest:
    """Likewise, which is float32."""
    return beam_search(sizes, ["float32"], device)


CONTESTS = {"training": _training, "search": _search}


@dataclass
class Growth:
    """The points of one curve."""

    size: str  # which of the sizes grows
    contest: str  # training | search
    values: list[int]
    milliseconds: list[float]  # per caption, median
    megabytes: list[float | None]  # that a run adds at most


def grow(options: BenchmarkOptions, device: torch.device) -> list[Growth]:
    """Measures all curves, and draws `growth-<size>.png` for each size into options.out."""
    curves = []
    for size, values in track(vars(options.grow).items(), "growth", len(LABELS)):
        several = [replace(options.sizes, **{size: value}) for value in values]
        found = [
            _curve(size, contest, several, options.repeats, device)
            for contest, sizes in GROWS.items()
            if size in sizes
        ]
        _draw(found, Path(options.out) / f"growth-{size}.png")
        curves += found
    return curves


def _curve(
    size: str, name: str, several: list[SizeOptions], repeats: int, device: torch.device
) -> Growth:
    curve = Growth(size, name, [getattr(sizes, size) for sizes in several], [], [])
    for sizes in several:
        contest = CONTESTS[name](sizes, device)
        ours, run = list(contest.runs.items())[-1]
        measured = alternate({ours: run}, repeats, device)[ours]
        seconds = Spread.of(measured.seconds).median
        curve.milliseconds.append(1e3 * seconds / contest.count)
        curve.megabytes.append(measured.memory and measured.memory / 1e6)
    return curve


def _draw(curves: list[Growth], path: Path) -> None:
    time = {curve.contest: (curve.values, curve.milliseconds) for curve in curves}
    memory = {curve.contest: (curve.values, curve.megabytes) for curve in curves}
    save_curves(LABELS[curves[0].size], {"ms per caption": time, "MB added": memory}, path)
