"""Other views of a training picture, so that a small data set is not learnt by heart."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageOps

from captioner.data.records import Box, on_the_image

AREA = (0.6, 1.0)
"""Of a crop, as a fraction of the picture's."""
STRETCH = (0.85, 1.18)
"""Of a crop's width to its height, against the picture's."""


class Crop(NamedTuple):
    """What a view shows; lengths are fractions of the picture's."""

    left: float
    top: float
    width: float
    height: float
    mirrored: bool

    def boxes(self, boxes: Sequence[Box]) -> list[Box]:
        """Boxes on the picture as they lie on the view. What is cut off is left out."""
        moved = []
        for box in boxes:
            left, right = ((x - self.left) / self.width for x in box[::2])
            top, bottom = ((y - self.top) / self.height for y in box[1::2])
            if self.mirrored:
                left, right = 1 - right, 1 - left
            moved.append((left, top, right, bottom))
        return on_the_image(moved)


def crop_of(image_id: str, view: int) -> Crop:
    """A function of `image_id` and `view`, of nothing else. View 0 is the whole picture."""
    if view == 0:
        return Crop(0.0, 0.0, 1.0, 1.0, mirrored=False)
    rng = random.Random(f"{image_id} {view}")
    area, stretch = rng.uniform(*AREA), rng.uniform(*STRETCH)
    width, height = (min(1.0, math.sqrt(side)) for side in (area * stretch, area / stretch))
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return Crop(left, top, width, height, mirrored=rng.random() < 0.5)


def view_of(image: Image.Image, image_id: str, view: int) -> Image.Image:
    """View 0 is the picture itself; every other is a random crop of it, half of them mirrored."""
    if view == 0:
        return image
    crop = crop_of(image_id, view)
    left, top = crop.left * image.width, crop.top * image.height
    width, height = crop.width * image.width, crop.height * image.height
    box = (left, top, left + width, top + height)
    size = (max(1, round(width)), max(1, round(height)))
    seen = image.resize(size, Image.Resampling.BICUBIC, box=box)
    return ImageOps.mirror(seen) if crop.mirrored else seen
