from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from captioner.data.augmentation import AREA, STRETCH, crop_of, view_of

WIDTH, HEIGHT = 120, 80


@pytest.fixture(scope="module")
def ramp() -> Image.Image:
    """Red tells the column, green the row."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return Image.fromarray(np.stack([2 * x, 3 * y, 0 * x], axis=-1).astype(np.uint8))


def test_view_0_is_the_picture_itself(ramp: Image.Image):
    assert view_of(ramp, "a", 0) is ramp


def test_name_and_number_decide_the_view_and_nothing_else_does(ramp: Image.Image):
    views = {(name, n): view_of(ramp, name, n).tobytes() for name in "ab" for n in range(1, 9)}
    assert len(set(views.values())) == len(views)
    assert view_of(ramp, "b", 3).tobytes() == views["b", 3]


def test_views_are_upright_crops_of_the_stated_sizes_and_half_are_mirrored(ramp: Image.Image):
    mirrored, areas = [], []
    for n in range(1, 201):
        pixels = np.asarray(view_of(ramp, "a", n)).astype(float)
        height, width, _ = pixels.shape
        areas.append(width * height / (WIDTH * HEIGHT))
        left, right = pixels[:, 0, 0].mean(), pixels[:, -1, 0].mean()
        mirrored.append(left > right)
        assert abs(right - left) / 2 == pytest.approx(width, abs=3)  # neither stretched nor shrunk
        assert pixels[-1, :, 1].mean() - pixels[0, :, 1].mean() == pytest.approx(3 * height, abs=9)
        stretch = (width / WIDTH) / (height / HEIGHT)
        assert STRETCH[0] - 0.03 < stretch < STRETCH[1] + 0.03
    assert AREA[0] - 0.03 < min(areas) < 0.65 and 0.93 < max(areas) <= 1
    assert 70 < sum(mirrored) < 130


def test_a_single_pixel_has_views(ramp: Image.Image):
    assert view_of(ramp.crop((0, 0, 1, 1)), "a", 1).size == (1, 1)


@pytest.mark.parametrize("view", range(9))
def test_boxes_go_with_the_view(ramp: Image.Image, view: int):
    """Columns and rows of a box's edges are read off the view's pixels."""
    (box,) = crop_of("a", view).boxes([(0.3, 0.3, 0.7, 0.7)])
    pixels = np.asarray(view_of(ramp, "a", view)).astype(float)
    height, width, _ = pixels.shape
    x = sorted(
        np.interp(edge * width - 0.5, range(width), pixels[0, :, 0]) / 2 for edge in box[::2]
    )
    y = [np.interp(edge * height - 0.5, range(height), pixels[:, 0, 1]) / 3 for edge in box[1::2]]
    assert (np.array(x) + 0.5) / WIDTH == pytest.approx([0.3, 0.7], abs=0.01)
    assert (np.array(y) + 0.5) / HEIGHT == pytest.approx([0.3, 0.7], abs=0.01)
    assert crop_of("a", view).boxes([(-0.2, 0.0, 0.0, 1.0)]) == []
