"""Attention walking through the sentence, as a GIF that plays anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from captioner.files import whole_file
from captioner.visualize.overlay import lay_over

_SIDE, _MARGIN, _LINE = 360, 14, 28  # pixels
_HOLD, _FIRST, _LAST, _PASSING = 760, 1000, 2400, 80  # milliseconds
_BETWEEN = 2  # frames in which the light moves on to the next word's place
_COLOURS = 192
_STILL = 6  # of 255: a pixel that changes less keeps its colour
_INK, _MUTED, _CHOSEN = "#14202e", "#5b6470", "#00224e"
_FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"  # most alphabets


class _Word(NamedTuple):
    text: str
    x: float
    y: float
    wide: float


def save_walk(caption: Any, view: Image.Image, path: str | Path) -> None:
    """Draw where the decoder looked, word after word, above the sentence with that word marked.

    Args:
        caption: a `Caption`, or anything with its attributes.
        view: the square crop that the encoder saw, at any resolution.
    """
    view = view.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    font = ImageFont.truetype(str(_FONT), 18)
    words = _laid_out(caption.words, font)
    frames, durations = [], []
    for picture, current, duration in _scenes(caption, view):
        frames.append(_frame(picture, words, current, font))
        durations.append(duration)
    first, *others = _settled(frames)
    with whole_file(Path(path)) as part:
        first.save(part, append_images=others, save_all=True, duration=durations, loop=0)


def _settled(frames: list[Image.Image]) -> Iterator[Image.Image]:
    """The frames in one palette, and each pixel left as it was until it is worth a change.

    What stands still then neither flickers nor takes space: a GIF stores what changes.
    """
    # The bare picture, which has most colours, counts four times.
    sample = frames[:: max(len(frames) // 12, 1)] + frames[:1] * 3
    sheet = Image.fromarray(np.concatenate([np.asarray(frame) for frame in sample]))
    palette = sheet.quantize(_COLOURS, Image.Quantize.MEDIANCUT)
    shown = np.full((*frames[0].size[::-1], 3), -256)  # nothing yet
    indices = np.zeros(shown.shape[:2], np.uint8)
    for frame in frames:
        colours = np.asarray(frame, int)
        changed = (np.abs(colours - shown) > _STILL).any(2)
        now = frame.quantize(palette=palette, dither=Image.Dither.NONE)
        indices = np.where(changed, now, indices)
        shown = np.where(changed[..., None], colours, shown)
        settled = Image.fromarray(indices)
        settled.putpalette(palette.getpalette())
        yield settled


def _scenes(caption: Any, view: Image.Image) -> Iterator[tuple[Image.Image, int | None, int]]:
    """Each frame's picture, the place of its word, and its milliseconds."""
    last = len(caption.words) - 1
    yield view, None, _FIRST
    for step, alpha in enumerate(caption.alpha):
        if step > 0:
            before = caption.alpha[step - 1]
            for share in np.linspace(0, 1, _BETWEEN + 2)[1:-1]:
                between = (1 - share) * before + share * alpha
                yield lay_over(view, between, caption.centres), step, _PASSING
        yield lay_over(view, alpha, caption.centres), step, _LAST if step == last else _HOLD


def _laid_out(words: list[str], font: ImageFont.FreeTypeFont) -> list[_Word]:
    """The words in lines as wide as the picture."""
    space, x, y, placed = font.getlength(" ") + 5, _MARGIN, 0.0, []
    for word in words:
        text = word
        while font.getlength(text) > _SIDE - 2 * _MARGIN:
            text = f"{text[:-2]}…"
        wide = font.getlength(text)
        if placed and x + wide > _SIDE - _MARGIN:
            x, y = _MARGIN, y + _LINE
        placed.append(_Word(text, x, y, wide))
        x += wide + space
    return placed


def _frame(
    picture: Image.Image, words: list[_Word], current: int | None, font: ImageFont.FreeTypeFont
) -> Image.Image:
    tall = _SIDE + 2 * _MARGIN + int(words[-1].y if words else 0) + _LINE
    frame = Image.new("RGB", (_SIDE, tall), "white")
    frame.paste(picture, (0, 0))
    pen = ImageDraw.Draw(frame)
    for place, (text, x, y, wide) in enumerate(words):
        middle = _SIDE + _MARGIN + y + _LINE / 2
        colour = _INK if current is None or place <= current else _MUTED
        if place == current:
            box = (x - 4, middle - _LINE / 2 + 2, x + wide + 4, middle + _LINE / 2 - 2)
            pen.rounded_rectangle(box, 6, fill=_CHOSEN)
            colour = "white"
        pen.text((x, middle), text, fill=colour, font=font, anchor="lm")
    return frame
