"""The plot says by the dots alone what differs, and takes any name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from captioner.visualize.dots import Dot, save_dots


def drawn(path: Path, *panels: list[Dot | None], names: tuple[str, ...] = ("a", "b")) -> np.ndarray:
    save_dots(names, {f"metric-{i}": dots for i, dots in enumerate(panels)}, path)
    return np.asarray(Image.open(path).convert("L"), dtype=int)


def test_a_dot_that_differs_is_filled_and_one_that_does_not_is_hollow(tmp_path: Path):
    def panel(differs: bool | None) -> np.ndarray:
        dots = [Dot(50, 48, 52), Dot(53, 52, 54, differs)]
        return drawn(tmp_path / "x.png", dots)

    assert (panel(True) <= panel(False)).all()  # filled is darker, and nothing else changes
    assert 20 < (panel(True) < panel(False)).sum() < 200  # by the inside of one dot
    assert (panel(None) == panel(False)).all()


def test_five_panels_take_two_lines_and_longer_names_more_room(tmp_path: Path):
    panels = [[Dot(1), Dot(2)]] * 5
    one, two = (drawn(tmp_path / "x.png", *panels[:n]).shape for n in (4, 5))
    assert two[0] > 1.5 * one[0] and two[1] == one[1]
    long = drawn(tmp_path / "x.png", *panels[:4], names=("a", "training.seed=0,$decoder"))
    assert long.shape[1] > one[1]


def test_a_score_may_be_missing(tmp_path: Path):
    shown = drawn(tmp_path / "x.png", [None, Dot(2, 1, 3)], [Dot(1, 0, 2), None])
    assert shown.min() < 100
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
