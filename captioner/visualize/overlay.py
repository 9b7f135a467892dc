"""Attention laid over the picture: one colour rule for the figure and for the page."""

from __future__ import annotations

import matplotlib
import numpy as np
from PIL import Image

from captioner.grid import Centres, even

_LEVELS = np.linspace(0, 1, 256)


def overlay_colours() -> np.ndarray:
    """The overlay's colour for attention from 0 to the maximum, as RGBA bytes (256, 4).

    Cividis, which reads the same with and without colour blindness, put on like night: where
    the decoder does not look the picture sinks into dark blue, where it looks it stays clear
    under a little yellow light (so that a black dog lights up, too).
    """
    colours = matplotlib.colormaps["cividis"](_LEVELS)
    colours[:, 3] = 0.76 - 0.5 * _LEVELS
    return np.round(255 * colours).astype(np.uint8)


def upsample(alpha: np.ndarray, size: int, centres: Centres | None = None) -> np.ndarray:
    """Stretch a grid of attention (H, W) smoothly over a square picture (size, size).

    Bicubic: each location has its weight around its centre, by default that of an equal part of the
    picture. Borders repeat the outermost locations.
    """
    (top, bottom), (left, right) = (reach(axis) for axis in centres or even(alpha.shape))
    margin = 4
    padded = Image.fromarray(np.pad(np.asarray(alpha, np.float32), margin, mode="edge"))
    box = tuple(margin + 0.5 + edge for edge in (left, top, right, bottom))
    smooth = padded.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(smooth).clip(alpha.min(), alpha.max())  # bicubic overshoots


def reach(centres: np.ndarray) -> tuple[float, float]:
    """Where the picture begins and ends, in steps of evenly spaced `centres` from the first one."""
    first, step = centres[0], (centres[-1] - centres[0]) / (len(centres) - 1)
    return -first / step, (1 - first) / step


def lay_over(view: Image.Image, alpha: np.ndarray, centres: Centres | None = None) -> Image.Image:
    """The square picture that the encoder saw under its attention (H, W), scaled to its maximum."""
    smooth = upsample(alpha, view.width, centres)
    levels = np.round(255 * smooth / max(float(alpha.max()), 1e-12)).astype(np.uint8)
    overlay = Image.fromarray(overlay_colours()[levels], "RGBA")
    return Image.alpha_composite(view.convert("RGBA"), overlay).convert("RGB")
