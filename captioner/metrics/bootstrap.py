"""Percentile bootstrap over images: how far a score would move on other images of the same kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Resamples drawn at a time, so that memory stays at BLOCK × N counts on the largest split.
BLOCK = 100


class Interval(NamedTuple):
    """Ends of a confidence interval, in the unit of its statistic: (), or (M,) for M statistics."""

    low: np.ndarray
    high: np.ndarray


def resample(
    statistic: Callable[[np.ndarray], np.ndarray], n: int, resamples: int = 1000, seed: int = 0
) -> np.ndarray:
    """Values (R,) of a statistic of `n` images, or (R, M) of M of them, in R bootstrap resamples.

    `statistic` maps counts (R, n), how often each image was drawn in each of R resamples, to its
    values (R,) or (R, M). Most are a product of the counts with something per image:
    `lambda counts: counts @ scores / n` is the mean. Images are drawn, not captions, because
    captions of one image are not independent. One seed draws the same resamples for every
    statistic, so that differences of two are paired.

    Raises ValueError without images or resamples.
    """
    if n < 1:
        raise ValueError(f"a bootstrap needs at least 1 image, got {n}")
    if resamples < 1:
        raise ValueError(f"a bootstrap needs at least 1 resample, got {resamples}")
    generator = np.random.default_rng(seed)
    blocks = [min(BLOCK, resamples - start) for start in range(0, resamples, BLOCK)]
    draws = (generator.multinomial(n, np.full(n, 1 / n), size) for size in blocks)
    return np.concatenate([statistic(counts) for counts in draws])


def interval(values: np.ndarray, level: float = 0.95) -> Interval:
    """Percentile interval of a statistic from its resampled values (R,) or (R, M).

    Efron and Tibshirani 1993, 13.3. Raises ValueError when the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1, got {level}")
    tail = (1 - level) / 2
    return Interval(*np.quantile(values, [tail, 1 - tail], axis=0))


def p_value(differences: np.ndarray) -> np.ndarray:
    """Two-sided p (), or (M,), of the hypothesis that a difference is zero.

    `differences` (R,) or (R, M) are those of two scores in the same resamples (paired bootstrap:
    Koehn 2004, "Statistical significance tests for machine translation evaluation", here
    two-sided). It is twice the share of resamples on the rarer side of zero, so it is below 0.05
    where the 95% interval leaves zero out. One resample is added on that side, since R of them
    can't tell a chance below 1 / R from none.
    """
    rarer = np.minimum((differences <= 0).sum(axis=0), (differences >= 0).sum(axis=0))
    return np.minimum(1, 2 * (rarer + 1) / (len(differences) + 1))
