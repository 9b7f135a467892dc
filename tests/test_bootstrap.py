from __future__ import annotations

import numpy as np
import pytest

from captioner.metrics.bootstrap import interval

SCORES = np.random.default_rng(0).normal(loc=5, scale=2, size=400)


def mean(scores: np.ndarray):
    return lambda counts: counts @ scores / len(scores)


def test_interval_of_a_mean_is_near_that_of_the_normal_theory():
    low, high = interval(mean(SCORES), len(SCORES))
    half = 1.96 * SCORES.std() / np.sqrt(len(SCORES))
    assert low == pytest.approx(SCORES.mean() - half, abs=0.2 * half)
    assert high == pytest.approx(SCORES.mean() + half, abs=0.2 * half)


def test_about_95_of_100_intervals_contain_the_true_mean():
    samples = np.random.default_rng(1).exponential(scale=3, size=(200, 100))
    intervals = [interval(mean(sample), 100, resamples=200) for sample in samples]
    covered = np.mean([low <= 3 <= high for low, high in intervals])
    # Expected 0.95, a little less for a skewed statistic; its standard error here is 0.015.
    assert 0.88 <= covered <= 0.99


def test_every_resample_draws_n_images():
    sizes = []

    def statistic(counts: np.ndarray) -> np.ndarray:
        sizes.append(counts.shape)
        assert (counts >= 0).all()
        return counts.sum(axis=1)

    assert interval(statistic, 7, resamples=250) == (7, 7)
    assert sum(resamples for resamples, _ in sizes) == 250
    assert {n for _, n in sizes} == {7}


def test_several_statistics_at_once_equal_each_alone():
    def both(counts: np.ndarray) -> np.ndarray:
        return np.stack([mean(SCORES)(counts), mean(-SCORES)(counts)], axis=-1)

    low, high = interval(both, len(SCORES))
    assert (low[0], high[0]) == interval(mean(SCORES), len(SCORES))
    assert (low[1], high[1]) == interval(mean(-SCORES), len(SCORES))


def test_a_higher_level_is_wider_and_a_seed_repeats():
    narrow, wide = (interval(mean(SCORES), len(SCORES), level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert interval(mean(SCORES), len(SCORES), level=0.5) == narrow
    assert interval(mean(SCORES), len(SCORES), level=0.5, seed=1) != narrow


def test_one_image_has_an_interval_without_width():
    assert interval(mean(SCORES[:1]), 1) == (SCORES[0], SCORES[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "at least 1 image, got 0"),
        ({"n": 3, "resamples": 0}, "at least 1 resample, got 0"),
        ({"n": 3, "level": 95}, "between 0 and 1, got 95"),
    ],
)
def test_mistakes_are_named(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        interval(lambda counts: counts.sum(axis=1), **options)
