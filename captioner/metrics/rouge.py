"""ROUGE-L (Lin 2004, section 3): the longest common subsequence with the references."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.metrics.metric import Metric, Words, check_captions, mean

BETA = 1.2  # weight of recall, as in COCO's evaluation


def rouge_l(hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]) -> Metric:
    """Mean ROUGE-L of N captions in percent, as COCO's evaluation (pycocoevalcap) computes it.

    Precision and recall are each the best over an image's references, perhaps of different ones.
    Raises ValueError as `check_captions` does.
    """
    check_captions(hypotheses, references)
    scores = [_f_measure(*image) for image in zip(hypotheses, references, strict=True)]
    return mean("rouge-l", 100 * np.array(scores))


def _f_measure(hypothesis: Words, references: Sequence[Words]) -> float:
    common = [common_length(hypothesis, reference) for reference in references]
    if not any(common):
        return 0.0
    precision = max(common) / len(hypothesis)
    recall = max(n / max(1, len(words)) for n, words in zip(common, references, strict=True))
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def common_length(a: Words, b: Words) -> int:
    """Length in words of the longest common subsequence."""
    row = [0] * (len(b) + 1)  # of the words of `a` so far with each beginning of `b`
    for word in a:
        above = row
        row = [0]
        for j, other in enumerate(b):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
    return row[-1]
