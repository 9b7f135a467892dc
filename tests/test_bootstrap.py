from __future__ import annotations

import math

import numpy as np
import pytest

from captioner.metrics.bootstrap import interval, p_value, resample

SCORES = np.random.default_rng(0).normal(loc=5, scale=2, size=400)


def mean(scores: np.ndarray):
    return lambda counts: counts @ scores / len(scores)


def test_interval_of_a_mean_is_near_that_of_the_normal_theory():
    low, high = interval(resample(mean(SCORES), len(SCORES)))
    half = 1.96 * SCORES.std() / np.sqrt(len(SCORES))
    assert low == pytest.approx(SCORES.mean() - half, abs=0.2 * half)
    assert high == pytest.approx(SCORES.mean() + half, abs=0.2 * half)


def test_about_95_of_100_intervals_contain_the_true_mean():
    samples = np.random.default_rng(1).exponential(scale=3, size=(200, 100))
    intervals = [interval(resample(mean(sample), 100, resamples=200)) for sample in samples]
    covered = np.mean([low <= 3 <= high for low, high in intervals])
    # Expected 0.95, a little less for a skewed statistic; its standard error here is 0.015.
    assert 0.88 <= covered <= 0.99


def test_every_resample_draws_n_images():
    sizes = []

    def statistic(counts: np.ndarray) -> np.ndarray:
        sizes.append(counts.shape)
        assert (counts >= 0).all()
        return counts.sum(axis=1)

    assert (resample(statistic, 7, resamples=250) == np.full(250, 7)).all()
    assert sum(resamples for resamples, _ in sizes) == 250
    assert {n for _, n in sizes} == {7}


def test_several_statistics_at_once_equal_each_alone():
    def both(counts: np.ndarray) -> np.ndarray:
        return np.stack([mean(SCORES)(counts), mean(-SCORES)(counts)], axis=-1)

    values = resample(both, len(SCORES))
    assert (values[:, 0] == resample(mean(SCORES), len(SCORES))).all()
    assert (values[:, 1] == resample(mean(-SCORES), len(SCORES))).all()
    low, high = interval(values)
    assert (low[1], high[1]) == interval(values[:, 1])


def test_a_higher_level_is_wider_and_a_seed_repeats():
    values = resample(mean(SCORES), len(SCORES))
    narrow, wide = (interval(values, level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert (resample(mean(SCORES), len(SCORES)) == values).all()
    assert (resample(mean(SCORES), len(SCORES), seed=1) != values).any()


def test_one_image_has_an_interval_without_width():
    assert interval(resample(mean(SCORES[:1]), 1)) == (SCORES[0], SCORES[0])


# The paired test.


def p_of(difference: np.ndarray) -> float:
    return float(p_value(resample(mean(difference), len(difference))))


def test_p_is_near_that_of_the_normal_theory():
    for shift in (0.1, 0.2, 0.3):  # 1, 2 and 3 standard errors
        difference = np.random.default_rng(2).normal(size=100)
        difference += shift - difference.mean()
        normal = math.erfc(shift * 10 / difference.std() / math.sqrt(2))
        assert p_of(difference) == pytest.approx(normal, abs=0.04)


def test_p_of_no_difference_is_evenly_spread():
    samples = np.random.default_rng(3).normal(size=(300, 60))
    found = np.array([p_of(sample) for sample in samples])
    assert np.quantile(found, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.09)


def test_p_has_two_sides_and_agrees_with_the_interval():
    for shift in np.linspace(-0.4, 0.4, 21):
        difference = np.random.default_rng(4).normal(loc=shift, size=80)
        values = resample(mean(difference), 80)
        assert p_value(values) == p_value(-values)
        low, high = interval(values)
        assert (p_value(values) < 0.05) == (not low <= 0 <= high)


def test_p_is_one_for_equals_and_never_zero():
    assert p_of(np.zeros(20)) == 1
    assert p_of(np.ones(20)) == pytest.approx(2 / 1001)
    both = np.stack([np.zeros(9), np.ones(9)], axis=-1)
    assert p_value(both).tolist() == pytest.approx([1, 0.2])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n": 0}, "at least 1 image, got 0"), ({"n": 3, "resamples": 0}, "at least 1 resample")],
)
def test_mistakes_are_named(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        resample(lambda counts: counts.sum(axis=1), **options)


def test_a_level_that_is_no_fraction_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1, got 95"):
        interval(SCORES, level=95)
