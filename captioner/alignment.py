"""Where in an image, as the encoder sees it, lies what the words of a caption name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captioner.data.augmentation import crop_of
from captioner.data.images import Transform
from captioner.data.records import Mention, Record
from captioner.grid import Grid
from captioner.metrics.grounding import coverage
from captioner.vocabulary import words


def visible(
    record: Record, caption: Sequence[str], transform: Transform, view: int = 0
) -> list[Mention]:
    """A caption's mentions with boxes on the encoder's square; what is not on it is left out.

    view: of the record's image, as `view_of` numbers them.
    """
    if record.regions is None:
        return []
    crop, (width, height) = crop_of(record.image_id, view), record.regions.shape
    shape, found = (crop.width * width, crop.height * height), record.regions.mentions(caption)
    moved = [Mention(each.index, transform.boxes(crop.boxes(each.boxes), shape)) for each in found]
    return [mention for mention in moved if mention.boxes]


class Alignment:
    """Which of the encoder's locations show what words name: what `CaptionedImages` asks for."""

    def __init__(self, grid: Grid, transform: Transform):
        self.grid, self.transform = grid, transform

    def __call__(self, record: Record, captions: Sequence[str], view: int = 0) -> Tensor:
        """m, (K, T, L), of a record's K captions in one of its image's views.

        m_ti in [0, 1] is the share of location i's cell that is covered by the regions of the
        word that is written at step t; all are zero where it names nothing, or nothing that can be
        seen. T is the longest caption's steps, `<end>` counted.
        """
        told = [words(caption) for caption in captions]
        shape = (self.grid.height, self.grid.width)
        regions = torch.zeros(len(told), 1 + max(map(len, told)), shape[0] * shape[1])
        for k, caption in enumerate(told):
            for mention in visible(record, caption, self.transform, view):
                covered = coverage(mention.boxes, shape, self.grid.centres)
                regions[k, mention.index] = torch.from_numpy(covered).flatten()
        return regions
