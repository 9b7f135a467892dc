"""How varied captions are, beside how good they are.

Only novelty comes with an interval. Numbers of different things are no sums over images, and a
bootstrap, which draws some images twice, would always find fewer of them than there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, pairwise

import numpy as np

from captioner.metrics.metric import Metric, Words, mean


def diversity(captions: Sequence[Words]) -> dict[str, float]:
    """Of N captions: `distinct-1`, `distinct-2`, `unique-captions` and `vocabulary-used`.

    distinct-n is the number of different n-grams per word written, in percent (Li et al. 2016, "A
    diversity-promoting objective function", section 5). unique-captions is the number of different
    captions per caption, in percent; vocabulary-used is the number of different words.
    Raises ValueError when there are no captions.
    """
    if not captions:
        raise ValueError("diversity needs at least 1 caption, got none")
    words = list(chain.from_iterable(captions))
    pairs = chain.from_iterable(map(pairwise, captions))
    per_word = 100 / max(1, len(words))
    return {
        "distinct-1": per_word * len(set(words)),
        "distinct-2": per_word * len(set(pairs)),
        "unique-captions": 100 * len(set(map(tuple, captions))) / len(captions),
        "vocabulary-used": float(len(set(words))),
    }


def novelty(captions: Sequence[Words], training: Iterable[Words]) -> Metric:
    """`novel-captions`: of N captions the percentage that no training caption equals."""
    seen = set(map(tuple, captions)).intersection(map(tuple, training))
    return mean("novel-captions", 100 * np.array([tuple(words) not in seen for words in captions]))
