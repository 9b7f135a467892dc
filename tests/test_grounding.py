from __future__ import annotations

import math

import numpy as np
import pytest

from captioner.data.records import Box
from captioner.grid import Centres
from captioner.metrics.grounding import coverage, entropy, mass_inside, pointing_hit, spread

EVERYWHERE = (0.0, 0.0, 1.0, 1.0)
SHAPE = (5, 7)  # not square, so that a swap of height and width shows


def random_alpha(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(SHAPE[0] * SHAPE[1], 0.3)).reshape(SHAPE)


def random_boxes(seed: int, k: int) -> list[Box]:
    corners = np.sort(np.random.default_rng(seed).uniform(size=(k, 2, 2)), axis=1)
    return [tuple(corner) for corner in corners.reshape(k, 4)]


def one_cell(row: int, column: int) -> np.ndarray:
    alpha = np.zeros(SHAPE)
    alpha[row, column] = 1
    return alpha


def cell_box(row: int, column: int) -> Box:
    height, width = SHAPE
    return column / width, row / height, (column + 1) / width, (row + 1) / height


@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 5), (4, 6)])
def test_attention_on_one_cell_hits_its_box_and_no_other(row: int, column: int):
    alpha = one_cell(row, column)
    assert pointing_hit(alpha, [cell_box(row, column)])
    assert mass_inside(alpha, [cell_box(row, column)]) == pytest.approx(1)
    others = [cell_box(r, c) for r in range(5) for c in range(7) if (r, c) != (row, column)]
    assert not pointing_hit(alpha, others)
    assert mass_inside(alpha, others) == pytest.approx(0, abs=1e-12)


def test_only_the_largest_alpha_points():
    alpha = np.array([[0.4, 0.6]])
    assert pointing_hit(alpha, [(0.6, 0.0, 1.0, 1.0)])
    assert not pointing_hit(alpha, [(0.0, 0.0, 0.6, 1.0)])
    assert pointing_hit(alpha, [(0.0, 0.0, 0.1, 0.1), (0.7, 0.4, 0.8, 0.6)])


def test_the_centre_of_the_cell_decides():
    alpha = np.array([[1.0, 0.0]])  # centre (0.25, 0.5)
    assert pointing_hit(alpha, [(0.2, 0.4, 0.3, 0.6)])
    assert not pointing_hit(alpha, [(0.3, 0.0, 1.0, 1.0)])


OFF = Centres(np.array([0.0, 0.5]), np.array([0.0, 0.25, 0.5]))  # cells end at 1/4, and 1/8, 3/8


def test_off_centre_locations_point_from_where_they_stand():
    alpha = np.zeros((2, 3))
    alpha[1, 1] = 1  # at x = 1/4, y = 1/2, in the cell from 1/8 to 3/8 and from 1/4 down
    assert pointing_hit(alpha, [(0.2, 0.45, 0.3, 0.55)], OFF)
    assert not pointing_hit(alpha, [(0.3, 0.0, 1.0, 1.0)], OFF)
    assert mass_inside(alpha, [(0.125, 0.25, 0.375, 1.0)], OFF) == pytest.approx(1)
    assert mass_inside(alpha, [(0.25, 0.625, 1.0, 1.0)], OFF) == pytest.approx(0.25)


@pytest.mark.parametrize("seed", range(3))
def test_off_centre_cells_fill_the_picture(seed: int):
    alpha = np.random.default_rng(seed).dirichlet(np.ones(6)).reshape(2, 3)
    assert mass_inside(alpha, [EVERYWHERE], OFF) == pytest.approx(1)
    beyond = Centres(np.array([-0.5, 0.3]), np.array([-0.6, -0.2, 0.3]))
    assert mass_inside(np.array([[0, 0, 0], [0, 0.4, 0.6]]), [EVERYWHERE], beyond) <= 1


def test_no_boxes_are_never_hit():
    assert not pointing_hit(random_alpha(0), [])
    assert mass_inside(random_alpha(0), []) == 0


@pytest.mark.parametrize("seed", range(5))
def test_mass_inside_the_whole_picture_is_one(seed: int):
    assert mass_inside(random_alpha(seed), [EVERYWHERE]) == pytest.approx(1)
    assert mass_inside(random_alpha(seed), [(-1.0, -0.5, 2.0, 1.5)]) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(5))
def test_mass_under_even_attention_is_the_area(seed: int):
    (box,) = random_boxes(seed, k=1)
    left, top, right, bottom = box
    area = (right - left) * (bottom - top)
    assert mass_inside(np.full(SHAPE, 1 / 35), [box]) == pytest.approx(area)


def test_a_cell_counts_by_the_fraction_covered():
    # The right half of the left cell's lower half: a quarter of it, 0.25 × 0.8, and no other.
    assert mass_inside(np.array([[0.8, 0.2]]), [(0.25, 0.5, 0.5, 1.0)]) == pytest.approx(0.2)


@pytest.mark.parametrize("seed", range(5))
def test_overlapping_boxes_count_once(seed: int):
    alpha, boxes = random_alpha(seed), random_boxes(seed, k=3)
    once = mass_inside(alpha, boxes)
    assert mass_inside(alpha, boxes + boxes) == pytest.approx(once)
    assert once <= sum(mass_inside(alpha, [box]) for box in boxes) + 1e-12
    assert once >= max(mass_inside(alpha, [box]) for box in boxes) - 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_coverage_equals_counting_points(seed: int):
    boxes = random_boxes(seed, k=4)
    fine = 100  # points per cell and axis
    y = (np.arange(SHAPE[0] * fine) + 0.5)[:, None] / (SHAPE[0] * fine)
    x = (np.arange(SHAPE[1] * fine) + 0.5)[None, :] / (SHAPE[1] * fine)
    inside = np.zeros((y.size, x.size), dtype=bool)
    for left, top, right, bottom in boxes:
        inside |= (left <= x) & (x <= right) & (top <= y) & (y <= bottom)
    counted = inside.reshape(SHAPE[0], fine, SHAPE[1], fine).mean(axis=(1, 3))
    assert coverage(boxes, SHAPE) == pytest.approx(counted, abs=0.03)


def test_boxes_that_differ_by_a_rounding_error_do_no_harm():
    thin = np.nextafter(1, 0)
    alpha = random_alpha(0)
    assert mass_inside(alpha, [(0.0, 0.0, thin, thin), EVERYWHERE]) == pytest.approx(1)
    assert mass_inside(alpha, [(thin, 0.0, 1.0, 1.0)]) == pytest.approx(0, abs=1e-12)


def test_mirroring_attention_and_boxes_changes_nothing():
    alpha, boxes = random_alpha(0), random_boxes(0, k=3)
    mirrored = [(1 - right, top, 1 - left, bottom) for left, top, right, bottom in boxes]
    assert mass_inside(alpha[:, ::-1], mirrored) == pytest.approx(mass_inside(alpha, boxes))
    assert pointing_hit(alpha[:, ::-1], mirrored) == pointing_hit(alpha, boxes)


def test_entropy_runs_from_one_cell_to_an_even_spread():
    assert str(entropy(one_cell(2, 3))) == "0.0"
    assert entropy(np.full(SHAPE, 1 / 35)) == pytest.approx(math.log(35))
    # Half on one cell, a quarter on each of two: 1/2 log 2 + 2 × 1/4 log 4 = 3/2 log 2.
    assert entropy(np.array([[0.5, 0.25], [0.25, 0.0]])) == pytest.approx(1.5 * math.log(2))
    assert 0 < entropy(random_alpha(0)) < math.log(35)


def test_attention_in_half_precision_is_brought_to_sum_to_one():
    alpha = np.full(SHAPE, 1 / 35, dtype=np.float16)
    assert alpha.sum(dtype=np.float64) != 1
    assert mass_inside(alpha, [EVERYWHERE]) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("alpha", "message"),
    [
        (np.ones(35), "must be a grid"),
        (np.zeros(SHAPE), "not all zero"),
        (np.array([[1.5, -0.5]]), "not negative"),
        (np.array([[math.nan, 1.0]]), "finite"),
    ],
)
def test_what_is_no_attention_is_refused(alpha: np.ndarray, message: str):
    for score in (entropy, lambda a: pointing_hit(a, []), lambda a: mass_inside(a, [])):
        with pytest.raises(ValueError, match=message):
            score(alpha)


@pytest.mark.parametrize("box", [(0.6, 0.1, 0.4, 0.2), (0.1, 0.6, 0.2, 0.4), (0, 0, math.nan, 1)])
def test_a_malformed_box_is_refused(box: Box):
    for score in (pointing_hit, mass_inside):
        with pytest.raises(ValueError, match="left <= right and top <= bottom"):
            score(random_alpha(0), [EVERYWHERE, box])


def test_spread_is_the_share_of_the_picture_that_looks_cover():
    there, elsewhere = one_cell(0, 0), one_cell(2, 3)
    assert spread(np.stack([there])) == spread(np.stack([there] * 9)) == pytest.approx(1 / 35)
    assert spread(np.stack([there, elsewhere])) == pytest.approx(2 / 35)
    # Staring does not make up for what is overlooked: 0.9 is cut at 1 / 35, 0.1 / 34 is not.
    stare = np.where(there == 1, 0.9, 0.1 / 34)
    assert spread(np.stack([stare])) == pytest.approx(1 / 35 + 0.1)
    every_cell = np.eye(35).reshape(35, *SHAPE)
    assert spread(every_cell) == pytest.approx(1) == spread(np.full((3, *SHAPE), 1 / 35))
