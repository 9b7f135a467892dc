"""The encoder's square: what each fit keeps, and that a larger view shows the same region."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from captioner.data.images import Transform

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def near(found, wanted, by=12):
    return np.abs(np.subtract(found, wanted, dtype=int)).max() <= by


def ramp(width, height):
    """Red grows to the right, green downwards, blue to the left."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8))


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(64, 32), (31, 64), (1, 5000), (5000, 1), (1, 1)])
def test_transform_gives_the_pixels_of_its_view(fit, size):
    image, transform = ramp(*size), Transform(24, fit)
    pixels = transform(image)
    assert pixels.shape == (3, 24, 24) and pixels.dtype == torch.uint8 and pixels.is_contiguous()
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(transform.view(image)))
    assert transform.view(image, 100).size == (100, 100)


def test_fits_differ_in_what_they_keep():
    wide = Image.new("RGB", (300, 100), GREEN)
    wide.paste(RED, (0, 0, 100, 100))
    wide.paste(BLUE, (200, 0, 300, 100))
    squash, crop, pad = (np.asarray(Transform(30, f).view(wide)) for f in ("squash", "crop", "pad"))
    assert near(squash[15, [2, 15, 27]], [RED, GREEN, BLUE])
    assert near(crop[15, [2, 15, 27]], [GREEN, GREEN, GREEN])
    assert near(pad[15, [2, 15, 27]], [RED, GREEN, BLUE])
    bars = [*range(10), *range(20, 30)]
    assert len(np.unique(pad[bars].reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(301, 200), (200, 303), (97, 500)])
def test_a_larger_view_shows_the_same_region(fit, size):
    image, transform = ramp(*size), Transform(32, fit)
    small = np.asarray(transform.view(image), float)
    large = np.asarray(transform.view(image, 96), float)
    reduced = large.reshape(32, 3, 32, 3, 3).mean((1, 3))
    assert np.abs(reduced - small).mean() < 1


def test_a_larger_view_has_the_same_bars():
    small, large = (np.asarray(Transform(32, "pad").view(ramp(97, 500), s)) for s in (32, 96))
    bars = (small == small[0, 0]).all(-1)
    assert bars.any() and not bars.all()
    assert np.array_equal((large == large[0, 0]).all(-1), bars.repeat(3, 0).repeat(3, 1))


def test_crop_is_resize_then_central_crop():
    noise = np.random.default_rng(0).integers(0, 256, (60, 120, 3), np.uint8)
    image = Image.fromarray(noise)
    whole = image.resize((60, 30), Image.Resampling.BICUBIC).crop((15, 0, 45, 30))
    assert near(np.asarray(Transform(30, "crop").view(image)), np.asarray(whole), by=1)


@pytest.mark.parametrize(
    ("size", "fit", "message"),
    [(0, "crop", "size is 0"), (1.5, "crop", "size is 1.5"), (8, "stretch", "squash, crop, pad")],
)
def test_transform_refuses_what_it_cannot_do(size, fit, message):
    with pytest.raises(ValueError, match=message):
        Transform(size, fit)


def test_view_refuses_bad_sizes_and_modes():
    transform = Transform(8, "crop")
    with pytest.raises(ValueError, match="size is -1"):
        transform.view(ramp(64, 32), -1)
    with pytest.raises(ValueError, match="not L: use open_image"):
        transform(ramp(64, 32).convert("L"))


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(300, 200), (200, 301), (97, 500), (240, 240)])
@pytest.mark.parametrize("box", [(0.4, 0.45, 0.7, 0.6), (0.2, 0.1, 0.9, 0.5), (0.0, 0.3, 1.0, 0.7)])
def test_a_box_goes_where_its_pixels_go(fit, size, box):
    image = Image.new("RGB", size, BLUE)
    edges = [round(edge * side) for edge, side in zip(box, (*size, *size), strict=True)]
    image.paste(RED, tuple(edges))
    drawn = tuple(edge / side for edge, side in zip(edges, (*size, *size), strict=True))
    transform = Transform(60, fit)
    (found,) = transform.boxes([drawn], size)
    red, _, blue = np.asarray(transform.view(image), int).transpose(2, 0, 1)
    rows, columns = np.nonzero((red > 127) & (blue < 100))  # the bars of pad are grey
    seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert 60 * np.array(found) == pytest.approx(seen, abs=1)


def test_a_box_that_a_crop_cuts_off_is_left_out():
    transform = Transform(10, "crop")
    assert transform.boxes([(0.0, 0.0, 0.2, 1.0), (0.2, 0.0, 0.5, 0.5)], (300, 100)) == [
        pytest.approx((0.0, 0.0, 0.5, 0.5))
    ]
    assert Transform(10, "squash").boxes([(-0.1, 0.0, 0.5, 1.2)], (3, 1)) == [(0, 0, 0.5, 1)]
