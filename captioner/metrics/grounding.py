"""Attention scored against the true regions of what a word names.

Boxes are fractions of the picture that the encoder saw, not of the file: where the transform
crops or pads, map them first. Attention is alpha (H, W) at the locations of a grid on that
picture, whose centres default to those of equal cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.data.records import Box
from captioner.grid import Centres, edges, even


def pointing_hit(alpha: np.ndarray, boxes: Sequence[Box], centres: Centres | None = None) -> bool:
    """Whether the location with the largest alpha (H, W) lies inside one of the boxes.

    The pointing game of Zhang et al. 2016 ("Top-down neural attention by excitation backprop",
    ECCV, 4.1) without its margin of 15 pixels, which suits maps finer than a grid of cells.
    Edges count as inside; of equal maxima the first in reading order counts; without boxes
    nothing is hit.
    Raises ValueError when alpha is not a distribution over a grid, or a box is malformed.
    """
    alpha = _distribution(alpha)
    boxes = _checked(boxes)
    row, column = np.unravel_index(alpha.argmax(), alpha.shape)
    rows, columns = centres or even(alpha.shape)
    y, x = rows[row], columns[column]
    left, top, right, bottom = boxes.T
    return bool(((left <= x) & (x <= right) & (top <= y) & (y <= bottom)).any())


def mass_inside(alpha: np.ndarray, boxes: Sequence[Box], centres: Centres | None = None) -> float:
    """The share of the attention, 0 to 1, that falls inside the union of the boxes.

    A location's attention is spread over its cell, the part of the picture nearest to it. A cell
    counts by the fraction of its area that is covered, once where boxes overlap; of a box that
    reaches beyond the picture the part inside counts.
    Raises ValueError as `pointing_hit` does.
    """
    alpha = _distribution(alpha)
    return float((alpha * coverage(boxes, alpha.shape, centres)).sum())


def coverage(
    boxes: Sequence[Box], shape: tuple[int, int], centres: Centres | None = None
) -> np.ndarray:
    """The fraction (H, W) of each cell's area that the union of the boxes covers.

    Raises ValueError when a box is malformed.
    """
    centres = centres or even(shape)
    left, top, right, bottom = _checked(boxes).clip(0, 1).T
    # The edges of cells and boxes cut the picture into pieces that are all inside or all outside.
    rows, y, dy = _pieces(edges(centres.rows), top, bottom)
    columns, x, dx = _pieces(edges(centres.columns), left, right)
    inside_y = (top < y[:, None]) & (y[:, None] < bottom)
    inside_x = (left < x[:, None]) & (x[:, None] < right)
    inside = (inside_y[:, None] & inside_x[None, :]).any(axis=-1)
    covered = np.zeros(shape)
    np.add.at(covered, (rows[:, None], columns), inside * np.outer(dy, dx))
    return covered.clip(0, 1)


def entropy(alpha: np.ndarray) -> float:
    """Entropy of alpha (H, W) in nats: 0 for a single cell, log(H W) for an even spread.

    Raises ValueError when alpha is not a distribution over a grid.
    """
    alpha = _distribution(alpha)
    positive = alpha[alpha > 0]
    return max(0.0, -float((positive * np.log(positive)).sum()))


def spread(alphas: np.ndarray) -> float:
    r"""How much of the picture T looks, alpha (T, H, W), cover between them, 1 / L to 1.

        Σ_i min(1 / L, (1 / T) Σ_t α_ti)

    It is what the looks' mean shares with an even spread over all L locations, for which the
    penalty of Xu et al. 2015, equation (14), asks: k / L for k of them seen equally. The cut at the
    even share keeps a location that is stared at from making up for others (as the coverage of Wu
    et al. 2016, arXiv 1609.08144, equation 14, cuts at 1).
    """
    average = sum(map(_distribution, alphas)) / len(alphas)
    return float(np.minimum(average, 1 / average.size).sum())


def _pieces(cells: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the pieces that edges of cells, and others, cut [0, 1] into.

    The cell that each lies in, its middle, and its length as a fraction of that cell's.
    """
    cuts = np.unique(np.concatenate([cells, *others]))
    middles = (cuts[1:] + cuts[:-1]) / 2
    # The maximum is for cells outside the picture, of which no piece is left but rounding errors.
    index = np.searchsorted(cells, middles, side="right").clip(1, len(cells) - 1) - 1
    return index, middles, np.diff(cuts) / np.maximum(np.diff(cells)[index], 1e-12)


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
