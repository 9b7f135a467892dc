"""What all metrics have in common: rows per image, of which any selection is scored by its sum.

A bootstrap needs a thousand selections. So each image is looked at once, and what its captions
contribute is kept; a selection is then a product of counts with rows, and one line of arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from captioner.metrics.bootstrap import interval, resample

Words = Sequence[str]


class Metric(NamedTuple):
    """One or several scores of N images that are a function of a sum over the images."""

    names: tuple[str, ...]  # of the M scores, as metrics.json has them
    rows: np.ndarray  # (N, K)
    score: Callable[[np.ndarray], np.ndarray]  # sums (..., K) of rows → scores (..., M)


def mean(name: str, sums: np.ndarray, counts: np.ndarray | None = None) -> Metric:
    """The mean, over all images, of something that images hold `counts` (N,) of; without: 1 each.

    `sums` (N,) are sums over what an image holds; the score has their unit, and is 0 for nothing.
    """
    counts = np.ones(len(sums)) if counts is None else counts
    rows = np.stack([sums, counts], axis=-1).astype(float)
    return Metric((name,), rows, lambda sums: sums[..., :1] / np.maximum(sums[..., 1:], 1))


def estimates(metrics: Sequence[Metric]) -> dict[str, float]:
    """The scores of all images."""
    scores = {}
    for names, rows, score in metrics:
        scores |= zip(names, score(rows.sum(axis=0)).tolist(), strict=True)
    return scores


def resampled(metrics: Sequence[Metric]) -> dict[str, np.ndarray]:
    """Each score of R bootstrap resamples (R,), the same resamples for every metric of N images."""

    def statistic(counts: np.ndarray) -> np.ndarray:
        return np.concatenate([score(counts @ rows) for _, rows, score in metrics], axis=-1)

    names = [name for metric in metrics for name in metric.names]
    return dict(zip(names, resample(statistic, len(metrics[0].rows)).T, strict=True))


def with_intervals(metrics: Sequence[Metric]) -> dict[str, float]:
    """The scores of all images, each before the ends of its 95% interval, `-low` and `-high`."""
    draws, scores = resampled(metrics), {}
    for name, value in estimates(metrics).items():
        low, high = interval(draws[name])
        scores |= {name: value, f"{name}-low": float(low), f"{name}-high": float(high)}
    return scores


def check_captions(hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]) -> None:
    """Raises ValueError unless there is a hypothesis and at least one reference of each image.

    All of them are lists of words; a hypothesis may be empty.
    """
    if len(hypotheses) != len(references):
        raise ValueError(
            "scores need the references of each hypothesis: "
            f"got {len(hypotheses)} hypotheses and references of {len(references)} images"
        )
    if len(hypotheses) == 0:
        raise ValueError("scores need at least 1 image, got none")
    for i, (hypothesis, several) in enumerate(zip(hypotheses, references, strict=True)):
        if len(several) == 0:
            raise ValueError(f"scores need at least 1 reference per image, number {i} has none")
        # A string is a sequence too: its letters would be scored.
        if any(isinstance(caption, str) for caption in (hypothesis, several, *several)):
            raise ValueError(f"scores need captions as lists of words, number {i} is a string")
