"""Corpus BLEU (Papineni et al. 2002), without smoothing. The n-gram counts are nltk's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nltk.translate.bleu_score import closest_ref_length, modified_precision

from captioner.metrics.metric import Metric, Words, check_captions

ORDERS = (1, 2, 3, 4)


def bleu(hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]) -> Metric:
    """Corpus BLEU of N captions in percent: `bleu-1` to `bleu-4`, and the same with `-no-bp`.

    `-no-bp` is without the brevity penalty, as Xu et al. report it. Equals
    `nltk.translate.bleu_score.corpus_bleu` with uniform weights; where no n-gram of some length
    matches, which nltk warns of, the score is 0.
    Raises ValueError as `bleu_statistics` does.
    """
    kinds = [(order, penalty) for penalty in (True, False) for order in ORDERS]
    names = [f"bleu-{order}" if penalty else f"bleu-{order}-no-bp" for order, penalty in kinds]

    def score(sums: np.ndarray) -> np.ndarray:
        return np.stack([_score(sums, *kind) for kind in kinds], axis=-1)

    return Metric(tuple(names), bleu_statistics(hypotheses, references), score)


def bleu_statistics(
    hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]
) -> np.ndarray:
    """What BLEU needs to know of each image, as integers (N, 10).

    A row holds the clipped matches of 1- to 4-grams, the numbers of 1- to 4-grams in the
    hypothesis, the length of the hypothesis, and that of the reference closest to it in length
    (the shorter of two equally close). As in nltk, the number of n-grams is at least 1, also for a
    hypothesis of fewer than n words.

    Raises ValueError as `check_captions` does.
    """
    check_captions(hypotheses, references)
    return np.array([_row(*image) for image in zip(hypotheses, references, strict=True)])


def _row(hypothesis: Words, references: Sequence[Words]) -> list[int]:
    precisions = [modified_precision(references, hypothesis, order) for order in ORDERS]
    matches = [precision.numerator for precision in precisions]
    totals = [precision.denominator for precision in precisions]
    length = len(hypothesis)
    return [*matches, *totals, length, closest_ref_length(references, length)]


def _score(sums: np.ndarray, order: int, brevity_penalty: bool) -> np.ndarray:
    """Percent (...) from sums (..., 10) of statistics over images."""
    matches, totals = sums[..., :order], sums[..., 4 : 4 + order]
    # Where nothing matches the score is 0 below; a match of 1 only keeps the logarithm quiet.
    log_score = np.log(np.maximum(matches, 1) / totals).mean(axis=-1)
    if brevity_penalty:
        length, reference_length = np.maximum(sums[..., 8], 1), sums[..., 9]
        log_score = log_score + np.minimum(0, 1 - reference_length / length)
    return 100 * np.where((matches > 0).all(axis=-1), np.exp(log_score), 0.0)
