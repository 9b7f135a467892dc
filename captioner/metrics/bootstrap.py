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


def interval(
    statistic: Callable[[np.ndarray], np.ndarray],
    n: int,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of a statistic of `n` images (Efron and Tibshirani 1993, 13.3).

    `statistic` maps counts (R, n), how often each image was drawn in each of R resamples, to the
    values (R,) of one statistic or (R, M) of M of them. Most are a product of the counts with
    something per image: `lambda counts: counts @ scores / n` is the mean. Images are drawn, not
    captions, because captions of one image are not independent. One seed draws the same resamples
    for every statistic.

    Raises ValueError without images or resamples, or when the level is not between 0 and 1.
    """
    if n < 1:
        raise ValueError(f"a bootstrap interval needs at least 1 image, got {n}")
    if resamples < 1:
        raise ValueError(f"a bootstrap interval needs at least 1 resample, got {resamples}")
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1, got {level}")
    generator = np.random.default_rng(seed)
    blocks = [min(BLOCK, resamples - start) for start in range(0, resamples, BLOCK)]
    values = [statistic(generator.multinomial(n, np.full(n, 1 / n), size)) for size in blocks]
    tail = (1 - level) / 2
    return Interval(*np.quantile(np.concatenate(values), [tail, 1 - tail], axis=0))
