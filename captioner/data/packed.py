"""Captions of a data set that is too large for Python's lists."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import pairwise

import numpy as np


class PackedCaptions:
    """Each item's captions, lists of ids, in flat arrays: `captions[item]` gives the lists back.

    As lists they would take several times the memory, and once more in every loader worker, since
    reading a Python object changes the page that it lies on.
    """

    def __init__(self, items: Iterable[list[list[int]]]):
        ids, ends, last = array("i"), array("q", [0]), array("q", [0])
        for captions in items:
            for caption in captions:
                ids.extend(caption)
                ends.append(len(ids))
            last.append(len(ends) - 1)
        self._ids = np.asarray(ids)
        self._ends = np.asarray(ends)  # where each caption ends in the ids, and before it the last
        self._last = np.asarray(last)  # likewise where each item ends in the captions

    def __len__(self) -> int:
        return len(self._last) - 1

    def __getitem__(self, item: int) -> list[list[int]]:
        ends = self._ends[self._last[item] : self._last[item + 1] + 1].tolist()
        return [self._ids[start:end].tolist() for start, end in pairwise(ends)]

    @property
    def bytes(self) -> bytes:
        """Equal only for equal captions of equal items."""
        return b"".join(part.tobytes() for part in (self._ids, self._ends, self._last))

    @property
    def first_lengths(self) -> np.ndarray:
        """Ids in the first caption of each item."""
        return np.diff(self._ends)[self._last[:-1]]
