"""The paper's figure (Xu et al. 2015, figure 3): the picture, then a panel per word."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from captioner.files import whole_file
from captioner.visualize.overlay import lay_over

_DPI = 132
_PANEL, _GAP, _MARGIN = 1.45, 0.14, 0.25  # inches
_ABOVE, _BELOW = 0.30, 0.26  # inches for a panel's word and its beta
_INK, _MUTED, _TRACK, _BAR = "#1b1f24", "#5b6470", "#e2e5e9", "#1f4e8c"


def save_panels(caption: Any, view: Image.Image, path: str | Path) -> None:
    """Draw where the decoder looked before each word, as a PNG that needs no display.

    Args:
        caption: a `Caption`, or anything with its attributes.
        view: the square crop that the encoder saw, at any resolution.
    """
    columns = _columns(len(caption.words) + 1)
    rows = math.ceil((len(caption.words) + 1) / columns)
    below = _BELOW if caption.beta is not None else 0.06
    wide = 2 * _MARGIN + columns * (_PANEL + _GAP) - _GAP
    heading = textwrap.fill(caption.text, round(9.5 * wide))
    top = 0.22 + 0.23 * (1 + heading.count("\n"))
    footer = textwrap.fill(_footer(caption), round(19 * (wide - 2 * _MARGIN)))
    bottom = 0.26 + 0.14 * (1 + footer.count("\n"))
    tall = top + rows * (_ABOVE + _PANEL + below) + bottom

    figure = Figure(figsize=(wide, tall), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    _write(figure, _MARGIN / wide, 1 - 0.2 / tall, heading, 12, weight="bold", va="top")
    _write(figure, _MARGIN / wide, 0.16 / tall, footer, 7, color=_MUTED, va="bottom")
    for index in range(len(caption.words) + 1):
        row, column = divmod(index, columns)
        left = _MARGIN + column * (_PANEL + _GAP)
        low = tall - top - row * (_ABOVE + _PANEL + below) - _ABOVE - _PANEL
        axes = figure.add_axes((left / wide, low / tall, _PANEL / wide, _PANEL / tall))
        if index == 0:
            _draw_panel(axes, view, "the picture", style="italic", color=_MUTED)
        else:
            lit = lay_over(view, caption.alpha[index - 1], caption.centres)
            _draw_panel(axes, lit, caption.words[index - 1])
            if caption.beta is not None:
                _draw_beta(axes, float(caption.beta[index - 1]))
    with whole_file(Path(path)) as part:
        canvas.print_png(part)


def _columns(panels: int) -> int:
    """The number of columns that leaves the last row fullest."""
    if panels <= 7:
        return max(panels, 3)
    return min((7, 6, 5), key=lambda columns: -panels % columns)


def _footer(caption: Any) -> str:
    """The one rule by which all panels are to be read."""
    peaks = caption.alpha.max((1, 2))
    height, width = caption.alpha.shape[1:]
    parts = [f"Light: where it looked before it wrote the word ({height}×{width} attention grid)."]
    if len(peaks):
        parts.append(
            "Each panel runs from 0 to its own maximum "
            f"({peaks.min():.2g} to {peaks.max():.2g}; even: {1 / (height * width):.2g})."
        )
    if caption.beta is not None:
        parts.append("β: how much of what it saw was let in, from 0 to 1.")
    return " ".join(parts)


def _draw_panel(axes: Axes, picture: Image.Image, title: str, **style: Any) -> None:
    axes.imshow(picture, interpolation="antialiased")
    axes.set_axis_off()
    short = title if len(title) <= 40 else f"{title[:39]}…"
    text = _write(axes, 0.5, 1.04, short, 11, ha="center", **style)
    extent = text.get_window_extent().width / _DPI
    text.set_fontsize(max(4.5, 11 * min(1, _PANEL / extent)))


def _draw_beta(axes: Axes, beta: float) -> None:
    place = {"transform": axes.transAxes, "clip_on": False, "linewidth": 0}
    axes.add_patch(Rectangle((0, -0.105), 0.68, 0.045, facecolor=_TRACK, **place))
    axes.add_patch(Rectangle((0, -0.105), 0.68 * beta, 0.045, facecolor=_BAR, **place))
    _write(axes, 1, -0.083, f"β {beta:.2f}", 7.5, ha="right", va="center", color=_MUTED)


def _write(parent: Axes | Figure, x: float, y: float, text: str, size: float, **style: Any) -> Text:
    """Text at fractions of the parent; never read as mathematics, whatever dollars it holds."""
    if isinstance(parent, Axes):
        style["transform"] = parent.transAxes
    return parent.text(x, y, text, fontsize=size, parse_math=False, **{"color": _INK} | style)
