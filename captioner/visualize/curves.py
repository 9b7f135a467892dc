"""Curves over a size that grows, a panel for each quantity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from captioner.files import whole_file

_DPI = 132
_PANEL = (3.4, 2.7)  # inches
_INK, _MUTED = "#1b1f24", "#5b6470"
_STYLES = (("#0072b2", "o", "-"), ("#d55e00", "s", "--"))  # Okabe and Ito's blue and vermilion

Curve = tuple[Sequence[float], Sequence[float | None]]
"""The x and y of its points; a y that is not known is None."""


def save_curves(label: str, panels: Mapping[str, Mapping[str, Curve]], path: str | Path) -> None:
    """Draws a PNG, without a display: per panel, by title, its curves by name, from zero upwards.

    There are at most two names; they have the same style in each panel.
    """
    size = (_PANEL[0] * len(panels), _PANEL[1])
    figure = Figure(figsize=size, dpi=_DPI, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, curves) in zip(grid, panels.items(), strict=True):
        axes.set_title(title, fontsize=9, color=_INK, loc="left")
        axes.set_xlabel(label, fontsize=8, color=_MUTED)
        axes.tick_params(labelsize=7.5, colors=_INK, length=2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_MUTED)
        for (name, (x, y)), (colour, marker, line) in zip(curves.items(), _STYLES, strict=False):
            y = [float("nan") if value is None else value for value in y]
            axes.plot(x, y, color=colour, marker=marker, linestyle=line, markersize=4, label=name)
        axes.update_datalim([(0, 0)])  # so that flat curves, too, have room above
        axes.autoscale_view()
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
    grid[0].legend(fontsize=7.5, frameon=False)
    with whole_file(Path(path)) as part:
        canvas.print_png(part)
