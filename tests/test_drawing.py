from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from captioner.data.drawing import COLOURS, KINDS, Shape, draw


def pixels(shapes: list[Shape], seed: int = 0, size: int = 96) -> np.ndarray:
    return np.asarray(draw(shapes, seed, size)).astype(int)


def shape(kind: str, radius: float = 0.17, rotation: float = 0.0, rgb=(250, 250, 250)) -> Shape:
    return Shape(kind, rgb, 0.47, 0.53, radius, rotation)


def drawn(one: Shape, size: int = 96) -> np.ndarray:
    """Where the picture differs from the picture without the shape."""
    return (pixels([one], size=size) != pixels([], size=size)).any(axis=2)


def test_the_same_seed_draws_the_same_picture_and_another_seed_another():
    assert (pixels([], seed=3) == pixels([], seed=3)).all()
    assert (pixels([], seed=3) != pixels([], seed=4)).any()


@pytest.mark.parametrize("size", [96, 384])
@pytest.mark.parametrize("rotation", [-0.3, 0.2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_box_is_tight_around_the_pixels_of_its_shape(kind, rotation, size):
    one = shape(kind, rotation=rotation)
    rows, columns = np.nonzero(drawn(one, size))
    found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    expected = np.array(one.box()) * size
    outwards = (found - expected) * [-1, -1, 1, 1]
    assert (outwards < 1).all()  # no pixel beyond the one that the box's edge runs through
    assert (outwards > -1.5).all()  # a tip thinner than a pixel may leave no trace


def test_no_two_kinds_look_alike_however_they_are_tilted():
    tilts = (-0.35, 0.0, 0.35)
    masks = {kind: [drawn(shape(kind, 0.1, tilt)) for tilt in tilts] for kind in KINDS}
    for one, other in combinations(KINDS, 2):
        shared = [(a & b).sum() / (a | b).sum() for a in masks[one] for b in masks[other]]
        assert max(shared) < 0.88, (one, other, max(shared))


@pytest.mark.parametrize("colour", COLOURS)
def test_every_colour_stands_out_from_every_background(colour):
    inside = drawn(shape("circle", radius=0.15))
    for seed in range(60):
        picture = pixels([shape("circle", radius=0.15, rgb=COLOURS[colour])], seed)
        contrast = np.abs(picture[inside].mean(axis=0) - pixels([], seed)[inside].mean(axis=0))
        assert contrast.max() > 50, seed


def test_a_larger_drawing_is_the_same_scene():
    for seed in range(12):
        small = pixels([shape("star")], seed, 48)
        large = pixels([shape("star")], seed, 192).reshape(48, 4, 48, 4, 3).mean(axis=(1, 3))
        assert np.abs(small - large).mean() < 10
