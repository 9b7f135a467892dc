"""Where the annotation vectors of an image stand on it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Centres(NamedTuple):
    """Where locations (H, W) stand, as fractions of a picture's height and width."""

    rows: np.ndarray  # (H,)
    columns: np.ndarray  # (W,)


class Grid(NamedTuple):
    """Locations row by row, L = height × width, on a square picture; lengths are in its pixels.

    A convolution need not centre its locations on equal parts of the picture: with MobileNetV2 the
    first stands on the upper left corner, and none as near to the lower right one.
    """

    height: int
    width: int
    stride: float  # from one location to the next
    offset: float  # from the picture's left and upper edge to the centre of the first location
    size: int  # of the picture's side

    @property
    def centres(self) -> Centres:
        counts = (self.height, self.width)
        return Centres(*((self.offset + self.stride * np.arange(n)) / self.size for n in counts))


def even(shape: tuple[int, int]) -> Centres:
    """Locations (H, W), each in the middle of its equal part of the picture."""
    return Centres(*((np.arange(n) + 0.5) / n for n in shape))


def edges(centres: np.ndarray) -> np.ndarray:
    """Where cells end, (n + 1,), that lie around `centres` (n,) and together fill [0, 1].

    A cell is the part of the picture that is nearest to its location.
    """
    between = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[0.0], between.clip(0, 1), [1.0]])
