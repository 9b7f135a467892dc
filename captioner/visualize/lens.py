"""An LSTM at work on a caption: its memory as a conveyor belt, and the gates along it."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from PIL import Image

from captioner.files import whole_file
from captioner.visualize.memory import (
    BELT_NOTES,
    Memory,
    amount,
    cell_limit,
    explain,
    follow,
    shares,
    signed_colours,
    telling_units,
)
from captioner.visualize.overlay import lay_over

UNITS = 16  # of the cell state are drawn one by one
_WORDS = 15  # at most so many in a line; a longer caption goes on in the next, as music does
_DPI = 132
_MARGIN, _LABEL, _GAP = 0.3, 2.45, 0.2  # inches
_HEIGHTS = {  # inches
    "words": 1.0,
    "belt": 2.2,
    **dict.fromkeys(("forget", "input", "candidate", "output"), 0.66),
    "cell": 0.15 * UNITS,
    "shown": 0.6,
}
_LINE_TALL = sum(_HEIGHTS.values()) + _GAP * len(_HEIGHTS)
_START = 0.6  # of a column, in which the belt comes in
_INK, _MUTED, _RULE, _BELT = "#1b1f24", "#5b6470", "#d5d9de", "#1f4e8c"
_DROPPED, _WRITTEN = "#c44e00", "#00785a"  # after Okabe and Ito, dark enough for text


def save_lens(caption: Any, view: Image.Image, path: str | Path) -> None:
    """Draw what each gate did to the memory at each word, as a PNG that needs no display.

    Args:
        caption: a `Caption`, or anything with its attributes.
        view: the square crop that the encoder saw, at any resolution.

    Raises ValueError where the caption lacks one of the six gates.
    """
    memory = follow(caption.gates)
    if memory is None:
        raise ValueError(f"{caption.image}: its caption came without the gates of an LSTM")
    sheet = _Sheet(caption, memory)
    for steps in sheet.lines:
        _draw_words(sheet, steps, view)
        _draw_belt(sheet, steps)
        for name in ("forget", "input", "candidate"):
            _draw_spread(sheet, steps, name)
        _draw_units(sheet, steps)
        _draw_spread(sheet, steps, "output")
        _draw_shown(sheet, steps)
    with whole_file(Path(path)) as part:
        sheet.canvas.print_png(part)


class _Sheet:
    """A figure with a column per word and a row per thing drawn, filled from the top."""

    def __init__(self, caption: Any, memory: Memory):
        self.caption, self.memory, self.texts = caption, memory, explain(memory)
        words = len(caption.words)
        count = math.ceil(words / _WORDS)
        self.columns = math.ceil(words / max(count, 1))
        ends = range(0, words, max(self.columns, 1))
        self.lines = [range(first, min(first + self.columns, words)) for first in ends]
        self.column = min(max(7 / max(self.columns, 1), 0.8), 1.3)  # inches
        self.wide = 2 * _MARGIN + _LABEL + (self.columns + _START) * self.column
        heading = textwrap.fill(caption.text, round(9 * self.wide))
        footer = textwrap.fill(_footer(memory), round(18 * self.wide))
        head, foot = 0.26 * (1 + heading.count("\n")), 0.3 + 0.16 * (1 + footer.count("\n"))
        self.tall = 2 * _MARGIN + head + len(self.lines) * _LINE_TALL + foot
        self.figure = Figure(figsize=(self.wide, self.tall), dpi=_DPI, facecolor="white")
        self.canvas = FigureCanvasAgg(self.figure)
        self.write(_MARGIN, self.tall - _MARGIN, heading, 13, weight="bold")
        self.write(_MARGIN, _MARGIN + foot - 0.3, footer, 7.5, color=_MUTED)
        self.top = self.tall - _MARGIN - head
        self.explained: set[str] = set()  # rows, in the first line alone

    def write(self, x: float, y: float, text: str, size: float, **style: Any) -> None:
        """Text in inches from the lower left; never read as mathematics, whatever its dollars."""
        style = {"color": _INK, "va": "top", "linespacing": 1.35} | style
        self.figure.text(x / self.wide, y / self.tall, text, size=size, parse_math=False, **style)

    def row(self, name: str, *more: str) -> Axes:
        """The next row of a line, with its explanation, a unit wide per word."""
        height = _HEIGHTS[name]
        self.top -= height + _GAP
        left, wide = _MARGIN + _LABEL, self.wide - 2 * _MARGIN - _LABEL
        place = (left / self.wide, self.top / self.tall, wide / self.wide, height / self.tall)
        axes = self.figure.add_axes(place, xlim=(-_START, self.columns))
        axes.set_axis_off()
        if name in self.texts:
            title, text = self.texts[name]
            self.write(_MARGIN, self.top + height, title, 9, weight="bold")
            if name not in self.explained:
                lines = [line for part in (text, *more) for line in textwrap.wrap(part, 41)]
                self.write(_MARGIN, self.top + height - 0.17, "\n".join(lines), 7, color=_MUTED)
                self.explained.add(name)
        return axes


def _footer(memory: Memory) -> str:
    return (
        "Each column is the step that wrote the word above it. Gates: the line is the mean over "
        f"all {memory.cell.shape[1]} units, the dark bar holds the middle half of them, the pale "
        "one the middle four fifths. Amounts are mean sizes over all units, whatever the sign; "
        "what is written may cancel what was kept, so the belt can be thinner than their sum. "
        "σ, tanh: squash to 0…1 and −1…1. ⊙: unit by unit."
    )


def _draw_words(sheet: _Sheet, steps: range, view: Image.Image) -> None:
    axes, tall = sheet.row("words"), _HEIGHTS["words"]
    words = [w if len(w) <= 24 else f"{w[:23]}…" for w in sheet.caption.words]
    size = max(min(10.5, 105 * sheet.column / max(map(len, words))), 4.5)
    side = min(0.74, 0.9 * sheet.column)  # inches
    half = side / sheet.column / 2
    for x, step in enumerate(steps):
        style = {"ha": "center", "va": "center", "weight": "bold", "color": _INK}
        axes.text(x + 0.5, tall - 0.09, words[step], size=size, parse_math=False, **style)
        shown = lay_over(view, sheet.caption.alpha[step], sheet.caption.centres)
        extent = (x + 0.5 - half, x + 0.5 + half, 0, side)
        axes.imshow(shown, extent=extent, aspect="auto", interpolation="antialiased")
    axes.set(xlim=(-_START, sheet.columns), ylim=(0, tall))  # which each picture has changed


def _draw_belt(sheet: _Sheet, steps: range) -> None:
    """The belt thins where the forget gate drops, and thickens where the input gate writes."""
    memory = sheet.memory
    before, dropped, written, after = (
        amount(values) for values in (memory.before, memory.dropped, memory.written, memory.cell)
    )
    lost, new = shares(memory)
    widest = max(before.max(), after.max(), 1e-9)
    top = 0.65 * widest + written.max()
    floor = -0.65 * widest - dropped.max()
    axes = sheet.row("belt", *BELT_NOTES)
    axes.set_ylim(floor - 0.12 * (top - floor), top + 0.12 * (top - floor))
    upper, lower = [(-_START, before[steps[0]] / 2)], [(-_START, -before[steps[0]] / 2)]
    for x, t in enumerate(steps):
        high, low, rest = before[t] / 2, -before[t] / 2, dropped[t] - before[t] / 2
        upper += _eased((x + 0.4, high), (x + 1, after[t] / 2))
        lower += [(x + 0.1, low), (x + 0.1, rest), *_eased((x + 0.4, rest), (x + 1, -after[t] / 2))]
        edge = 0.8 * min(high, after[t] / 2)  # the stream ends behind the belt, never below it
        end = (edge, max(edge - written[t], -edge))
        _ribbon(axes, x + 0.2, (top, top - written[t]), x + 0.84, end, _WRITTEN)
        _ribbon(axes, x + 0.1, (rest, low), x + 0.66, (floor + dropped[t], floor), _DROPPED)
        style = {"ha": "center", "size": 7.5}
        axes.text(x + 0.66, floor, f"−{lost[t]:.0%}", va="top", color=_DROPPED, **style)
        axes.text(x + 0.2, top, f"+{new[t]:.0%}", va="bottom", color=_WRITTEN, **style)
    axes.fill(*np.array(upper + lower[::-1]).T, color=_BELT, linewidth=0, zorder=2)
    places = np.arange(-_START / 2, len(steps))
    axes.plot(places, 0 * places, ">", color="white", alpha=0.7, markersize=4, zorder=3)
    if steps[0] == 0:
        note = "c₀, from\nthe picture"
        axes.text(-_START, 0.56 * before[0], note, va="bottom", size=7, color=_MUTED)


def _eased(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    """Points of a curve that leaves and arrives level."""
    s = np.linspace(0, 1, 24)
    rise = s * s * (3 - 2 * s)
    xs, ys = (a + (b - a) * share for a, b, share in zip(start, end, (s, rise), strict=True))
    return list(zip(xs, ys, strict=True))


def _ribbon(
    axes: Axes, x0: float, start: tuple[float, float], x1: float, end: tuple[float, float], c: str
) -> None:
    """A stream of colour c; start and end are its upper and lower edge."""
    upper, lower = (_eased((x0, y0), (x1, y1)) for y0, y1 in zip(start, end, strict=True))
    axes.add_patch(PathPatch(Outline(upper + lower[::-1]), color=c, linewidth=0))


def _draw_spread(sheet: _Sheet, steps: range, name: str) -> None:
    """How far a gate is open over all units: mean, middle half and middle four fifths."""
    values = sheet.caption.gates[name][steps.start : steps.stop]
    low = -1 if name == "candidate" else 0
    axes = sheet.row(name)
    axes.set_ylim(low - 0.04 * (1 - low), 1 + 0.04 * (1 - low))
    for level, label in ((low, "−1" if low else "shut"), (1, "1" if low else "open")):
        axes.plot([0, len(steps)], [level, level], color=_RULE, linewidth=0.8, zorder=0)
        axes.text(-0.06, level, label, ha="right", va="center", size=6.5, color=_MUTED)
    places = np.arange(len(steps)) + 0.5
    for share, wide, colour in ((80, 0.34, "#d3deec"), (50, 0.34, "#8fadd2")):
        ends = np.percentile(values, [50 - share / 2, 50 + share / 2], axis=1)
        axes.bar(places, ends[1] - ends[0], wide, ends[0], color=colour)
    mean = values.mean(1)
    axes.plot(places, mean, "o-", color=_BELT, markersize=3.5, linewidth=1.3)
    for x, value in zip(places, mean, strict=True):
        text = f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")
        axes.text(x, 1.05, text, ha="center", va="bottom", size=6.5, color=_INK)


def _draw_units(sheet: _Sheet, steps: range) -> None:
    """The cell state of the most telling units; triangles: dropped, dots: written."""
    memory = sheet.memory
    units = telling_units({"cell": memory.cell}, UNITS)
    limit = cell_limit(memory.cell[:, units])
    most = max(float(np.abs([memory.dropped[:, units], memory.written[:, units]]).max()), 1e-9)
    axes = sheet.row(
        "cell",
        f"The {len(units)} units whose cell state varies most over the caption, a row each, by the "
        "word at which it is largest.",
        f"Blue: −{limit:.1f}, white: 0, orange: +{limit:.1f}. The larger a triangle, the more the "
        "forget gate dropped; the larger a dot, the more was written.",
    )
    axes.set_ylim(len(units), 0)
    shown = slice(steps.start, steps.stop)
    values = np.concatenate([memory.before[shown][:1], memory.cell[shown]])[:, units].T
    edges = [-_START, *range(len(steps) + 1)]
    scale = {"vmin": -limit, "vmax": limit, "cmap": ListedColormap(signed_colours() / 255)}
    axes.pcolormesh(edges, range(len(units) + 1), values, edgecolors="white", **scale)
    columns, rows = np.meshgrid(np.arange(len(steps)), np.arange(len(units)), indexing="ij")
    for changed, place, marker in ((memory.dropped, 0.3, "v"), (memory.written, 0.7, "o")):
        area = 64 * np.abs(changed[shown][:, units]) / most
        style = {"marker": marker, "color": _INK, "linewidths": 0}
        axes.scatter(columns + place, rows + 0.5, area, **style)
    for row, unit in enumerate(units):
        axes.text(-_START - 0.05, row + 0.5, unit, ha="right", va="center", size=5.5, color=_MUTED)


def _draw_shown(sheet: _Sheet, steps: range) -> None:
    sizes = amount(sheet.memory.shown)
    axes = sheet.row("shown", "Bars: mean size over all units.")
    axes.set_ylim(0, 1.25 * max(sizes.max(), 1e-9))
    axes.plot([0, len(steps)], [0, 0], color=_RULE, linewidth=0.8)
    for x, step in enumerate(steps):
        axes.bar(x + 0.5, sizes[step], 0.34, color=_BELT)
        axes.text(x + 0.5, sizes[step], f"{sizes[step]:.2f}", ha="center", va="bottom", size=6.5)
