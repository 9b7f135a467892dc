"""Scores of several captioners as dots with their intervals, a panel per metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from captioner.files import whole_file

_DPI = 132
_COLUMNS, _PANEL, _ROW = 4, 2.1, 0.24  # inches
_INK, _MUTED, _BLUE = "#1b1f24", "#5b6470", "#0072b2"  # blue of Okabe and Ito's palette


class Dot(NamedTuple):
    """A score with the ends of its interval, if it has one."""

    value: float
    low: float | None = None
    high: float | None = None
    differs: bool | None = None  # from the first row's; None where that was not tested


def save_dots(
    rows: Sequence[str], panels: Mapping[str, Sequence[Dot | None]], path: str | Path
) -> None:
    """Draws a PNG, without a display; `panels` has a dot for each of the rows, or None.

    The dotted line is the first row's value. Dots that differ from it are filled, which can be seen
    without colours.
    """
    columns = min(_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    names = 0.3 + 0.075 * max(map(len, rows))
    size = (names + columns * _PANEL, 0.45 + lines * (0.65 + _ROW * len(rows)))
    figure = Figure(figsize=size, dpi=_DPI, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axes, (title, dots) in zip(grid.flat, panels.items(), strict=False):
        _draw_panel(axes, title, dots)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    grid[0, 0].set_yticks(range(len(rows)), rows)
    grid[0, 0].set_ylim(len(rows) - 0.4, -0.6)
    for text in [label for axes in grid[:, 0] for label in axes.get_yticklabels()]:
        text.set_parse_math(False)
    legend = {"fontsize": 7.5, "color": _MUTED, "x": 0.01, "ha": "left", "parse_math": False}
    figure.supxlabel(_legend(rows), **legend)
    with whole_file(Path(path)) as part:
        canvas.print_png(part)


def _draw_panel(axes: Axes, title: str, dots: Sequence[Dot | None]) -> None:
    axes.set_title(title, fontsize=9, color=_INK, loc="left")
    axes.tick_params(labelsize=7.5, colors=_INK, length=2)
    axes.tick_params(axis="y", labelsize=8.5, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_MUTED)
    if dots[0] is not None:
        axes.axvline(dots[0].value, color=_MUTED, linewidth=0.8, linestyle=":")
    for row, dot in enumerate(dots):
        if dot is not None:
            colour = _BLUE if row else _INK
            if dot.low is not None:
                axes.plot([dot.low, dot.high], [row, row], color=colour, linewidth=1.6)
            face = colour if dot.differs or row == 0 else "white"
            axes.plot(dot.value, row, "o", color=colour, markerfacecolor=face, markersize=5.5)


def _legend(rows: Sequence[str]) -> str:
    text = "Lines: 95% bootstrap intervals over images."
    if len(rows) == 1:
        return text
    return f"{text} Filled: differs from {rows[0]} by a paired bootstrap, p < 0.05."
