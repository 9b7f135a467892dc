"""Attention scored against the true regions of what a word names.

Boxes are fractions of the picture that the encoder saw, not of the file: where the transform
crops, map them first. Attention is a grid alpha (H, W) over the same picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.data.records import Box


def pointing_hit(alpha: np.ndarray, boxes: Sequence[Box]) -> bool:
    """Whether the centre of the cell with the largest alpha (H, W) lies inside one of the boxes.

    The pointing game of Zhang et al. 2016 ("Top-down neural attention by excitation backprop",
    ECCV, 4.1) without its margin of 15 pixels, which suits maps finer than a grid of cells.
    Edges count as inside; of equal maxima the first in reading order counts; without boxes
    nothing is hit.
    Raises ValueError when alpha is not a distribution over a grid, or a box is malformed.
    """
    alpha = _distribution(alpha)
    boxes = _checked(boxes)
    row, column = np.unravel_index(alpha.argmax(), alpha.shape)
    y, x = (row + 0.5) / alpha.shape[0], (column + 0.5) / alpha.shape[1]
    left, top, right, bottom = boxes.T
    return bool(((left <= x) & (x <= right) & (top <= y) & (y <= bottom)).any())


def mass_inside(alpha: np.ndarray, boxes: Sequence[Box]) -> float:
    """The share of the attention, 0 to 1, that falls inside the union of the boxes.

    A cell counts by the fraction of its area that is covered, once where boxes overlap; of a box
    that reaches beyond the picture the part inside counts.
    Raises ValueError as `pointing_hit` does.
    """
    alpha = _distribution(alpha)
    return float((alpha * coverage(boxes, alpha.shape)).sum())


def coverage(boxes: Sequence[Box], shape: tuple[int, int]) -> np.ndarray:
    """The fraction (H, W) of each cell's area that the union of the boxes covers.

    Raises ValueError when a box is malformed.
    """
    height, width = shape
    left, top, right, bottom = _checked(boxes).clip(0, 1).T
    # The edges of cells and boxes cut the picture into pieces that are all inside or all outside.
    rows, y, dy = _pieces(height, top, bottom)
    columns, x, dx = _pieces(width, left, right)
    inside_y = (top < y[:, None]) & (y[:, None] < bottom)
    inside_x = (left < x[:, None]) & (x[:, None] < right)
    inside = (inside_y[:, None] & inside_x[None, :]).any(axis=-1)
    covered = np.zeros(shape)
    np.add.at(covered, (rows[:, None], columns), inside * np.outer(dy * height, dx * width))
    return covered.clip(0, 1)


def entropy(alpha: np.ndarray) -> float:
    """Entropy of alpha (H, W) in nats: 0 for a single cell, log(H W) for an even spread.

    Raises ValueError when alpha is not a distribution over a grid.
    """
    alpha = _distribution(alpha)
    positive = alpha[alpha > 0]
    return max(0.0, -float((positive * np.log(positive)).sum()))


def _pieces(cells: int, *edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cell, middle and length of the pieces that cell and box edges cut [0, 1] into."""
    cuts = np.unique(np.concatenate([np.arange(cells + 1) / cells, *edges]))
    middles = (cuts[1:] + cuts[:-1]) / 2
    # The minimum is for a middle that rounds up to 1, in a piece too thin to matter.
    return np.minimum((middles * cells).astype(int), cells - 1), middles, np.diff(cuts)


def _distribution(alpha: np.ndarray) -> np.ndarray:
    """Alpha as doubles that sum to one, of which attention in half precision falls short."""
    alpha = np.asarray(alpha, dtype=np.float64)
    if alpha.ndim != 2:
        raise ValueError(f"attention must be a grid (H, W), got shape {alpha.shape}")
    if not (np.isfinite(alpha).all() and (alpha >= 0).all() and alpha.sum() > 0):
        raise ValueError("attention must be finite, not negative and not all zero")
    return alpha / alpha.sum()


def _checked(boxes: Sequence[Box]) -> np.ndarray:
    """The boxes as an array (K, 4)."""
    for left, top, right, bottom in boxes:
        if not (left <= right and top <= bottom):
            raise ValueError(
                "a box is (left, top, right, bottom) with left <= right and top <= bottom, "
                f"got {(left, top, right, bottom)}"
            )
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)
