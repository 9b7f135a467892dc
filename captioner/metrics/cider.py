"""CIDEr-D (Vedantam, Zitnick and Parikh 2015): how alike n-grams are, weighted by tf-idf."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from captioner.metrics.metric import Metric, Words, check_captions, mean

ORDER = 4  # n-grams of 1 to 4 words
SIGMA = 6.0  # words, of the Gaussian penalty on a difference in length
KEPT = 2**16  # references whose vectors are kept, the latest: all of Flickr8k's

Gram = tuple[Hashable, ...]


def cider(hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]) -> Metric:
    """CIDEr-D of N captions as the field reports it, with document frequencies of their references.

    In percent: 100 times what pycocoevalcap gives, that is, 1,000 for a perfect caption. A
    bootstrap keeps the document frequencies of all N images.
    Raises ValueError as `check_captions` does.
    """
    check_captions(hypotheses, references)
    return mean("cider", CiderD(references)(hypotheses, references))


class CiderD:
    """Scores captions one by one; fast enough to reward every caption in training.

    References' vectors are kept, since the same ones come again with each epoch.
    """

    def __init__(self, references: Sequence[Sequence[Words]]):
        """references: of N images, for the document frequencies: in how many images an n-gram is.

        Raises ValueError when there are none.
        """
        if not references:
            raise ValueError("CIDEr-D needs the references of at least 1 image, got none")
        images = ({gram for words in several for gram in _ngrams(words)} for several in references)
        frequencies = Counter(gram for grams in images for gram in grams)
        self.most = math.log(len(references))  # of what is in one image, or in none as if in one
        self.idf = {gram: self.most - math.log(n) for gram, n in frequencies.items() if n > 1}
        self._reference = functools.lru_cache(KEPT)(self._vector)

    def __call__(
        self, hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]
    ) -> np.ndarray:
        """The score of each hypothesis (B,), in the unit of `cider`; several may be of one image.

        Raises ValueError as `check_captions` does.
        """
        check_captions(hypotheses, references)
        scores = []
        for hypothesis, several in zip(hypotheses, references, strict=True):
            written = self._vector(tuple(hypothesis))
            alike = [similarity(written, self._reference(tuple(words))) for words in several]
            scores.append(1000 * sum(alike) / len(alike))
        return np.array(scores)

    def _vector(self, words: Words) -> Vector:
        return vector(words, self.idf, self.most)


class Vector(NamedTuple):
    """The g^n of the paper's equations (1) and (3), for all n."""

    weights: dict[Gram, float]  # n-gram → tf-idf
    norms: list[float]  # of each order
    length: int  # words


def vector(words: Sequence[Hashable], idf: Mapping[Gram, float], otherwise: float) -> Vector:
    """A caption's vector, of words or of their ids; `otherwise` weighs what `idf` does not have."""
    weights = {gram: count * idf.get(gram, otherwise) for gram, count in _ngrams(words).items()}
    squares = [0.0] * ORDER
    for gram, weight in weights.items():
        squares[len(gram) - 1] += weight**2
    return Vector(weights, [math.sqrt(square) for square in squares], len(words))


def _ngrams(words: Sequence[Hashable]) -> Counter[Gram]:
    return Counter(
        tuple(words[i : i + n]) for n in range(1, ORDER + 1) for i in range(len(words) - n + 1)
    )


def similarity(hypothesis: Vector, reference: Vector) -> float:
    """Equation (3), without its factor of 10, averaged over the orders, for one reference."""
    products = [0.0] * ORDER
    for gram, weight in hypothesis.weights.items():
        wanted = reference.weights.get(gram, 0.0)
        products[len(gram) - 1] += min(weight, wanted) * wanted  # more often than wanted is no gain
    norms = zip(hypothesis.norms, reference.norms, strict=True)
    cosines = [p / (a * b) if a and b else 0.0 for p, (a, b) in zip(products, norms, strict=True)]
    apart = hypothesis.length - reference.length
    return sum(cosines) / ORDER * math.exp(-(apart**2) / (2 * SIGMA**2))
