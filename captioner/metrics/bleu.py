"""Corpus BLEU (Papineni et al. 2002), without smoothing, with bootstrap intervals over images.

The n-gram counts are nltk's. They are taken once per image and kept, so that a score of any
selection of images, as the bootstrap needs a thousand of, is a sum and one line of arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nltk.translate.bleu_score import closest_ref_length, modified_precision

from captioner.metrics.bootstrap import interval

ORDERS = (1, 2, 3, 4)
Words = Sequence[str]


def corpus_bleu(
    hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]
) -> dict[str, float]:
    """BLEU-1 to BLEU-4 of N captions in percent, each with its 95% bootstrap interval.

    The flat result has the keys `bleu-1` to `bleu-4`, the same with `-no-bp` for no brevity
    penalty (as the paper reports it), and for each of these eight `<key>-low` and `<key>-high`.
    Raises ValueError as `bleu_statistics` does.
    """
    statistics = bleu_statistics(hypotheses, references)
    kinds = [(order, penalty) for penalty in (True, False) for order in ORDERS]

    def scores(counts: np.ndarray) -> np.ndarray:
        sums = counts @ statistics
        return np.stack([_score(sums, order, penalty) for order, penalty in kinds], axis=-1)

    low, high = interval(scores, len(statistics))
    result = {}
    for i, (order, penalty) in enumerate(kinds):
        key = f"bleu-{order}" if penalty else f"bleu-{order}-no-bp"
        result[key] = bleu(statistics, order, penalty)
        result[f"{key}-low"] = float(low[i])
        result[f"{key}-high"] = float(high[i])
    return result


def bleu(statistics: np.ndarray, order: int = 4, brevity_penalty: bool = True) -> float:
    """Corpus BLEU in percent of the images whose rows (N, 10) of `bleu_statistics` are given.

    Equals `nltk.translate.bleu_score.corpus_bleu` with uniform weights; where no n-gram of some
    length matches, which nltk warns of, the score is 0.
    Raises ValueError when there are no images or the order is not 1 to 4.
    """
    if order not in ORDERS:
        raise ValueError(f"BLEU is scored here for orders 1 to 4, got {order}")
    if len(statistics) == 0:
        raise ValueError("BLEU needs at least 1 image, got none")
    return float(_score(statistics.sum(axis=0), order, brevity_penalty))


def bleu_statistics(
    hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]
) -> np.ndarray:
    """What BLEU needs to know of each image, as integers (N, 10).

    A row holds the clipped matches of 1- to 4-grams, the numbers of 1- to 4-grams in the
    hypothesis, the length of the hypothesis, and that of the reference closest to it in length
    (the shorter of two equally close). As in nltk, the number of n-grams is at least 1, also for a
    hypothesis of fewer than n words.

    A hypothesis may be empty. Raises ValueError when there are no images, when their numbers
    differ, when an image has no reference, or when a caption is a string and not a list of words.
    """
    _check(hypotheses, references)
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


def _check(hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]) -> None:
    if len(hypotheses) != len(references):
        raise ValueError(
            "BLEU needs the references of each hypothesis: "
            f"got {len(hypotheses)} hypotheses and references of {len(references)} images"
        )
    if len(hypotheses) == 0:
        raise ValueError("BLEU needs at least 1 image, got none")
    for i, (hypothesis, several) in enumerate(zip(hypotheses, references, strict=True)):
        if len(several) == 0:
            raise ValueError(f"BLEU needs at least 1 reference per image, number {i} has none")
        # A string is a sequence too: nltk would score its letters.
        if any(isinstance(caption, str) for caption in (hypothesis, several, *several)):
            raise ValueError(f"BLEU needs captions as lists of words, number {i} is a string")
