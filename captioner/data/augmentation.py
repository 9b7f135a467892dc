"""Other views of a training picture, so that a small data set is not learnt by heart."""

from __future__ import annotations

import math
import random

from PIL import Image, ImageOps

AREA = (0.6, 1.0)
"""Of a crop, as a fraction of the picture's."""
STRETCH = (0.85, 1.18)
"""Of a crop's width to its height, against the picture's."""


def view_of(image: Image.Image, image_id: str, view: int) -> Image.Image:
    """View 0 is the picture itself; every other is a random crop of it, half of them mirrored.

    Crop and mirroring are a function of `image_id` and `view`, of nothing else.
    """
    if view == 0:
        return image
    rng = random.Random(f"{image_id} {view}")
    area, stretch = rng.uniform(*AREA), rng.uniform(*STRETCH)
    width = min(1.0, math.sqrt(area * stretch)) * image.width
    height = min(1.0, math.sqrt(area / stretch)) * image.height
    left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
    box = (left, top, left + width, top + height)
    size = (max(1, round(width)), max(1, round(height)))
    crop = image.resize(size, Image.Resampling.BICUBIC, box=box)
    return ImageOps.mirror(crop) if rng.random() < 0.5 else crop
