"""The caption that says best what all of a search's captions say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import assert_same

from captioner.consensus import agreement
from captioner.search import Hypothesis, search

CAPTIONS = [[5, 6, 7, 8, 9], [5, 6, 7], [5, 6, 7, 5, 6], [9, 4], [4], []]
SCORES = [-1.0, -0.5, -1.5, -0.4, -2.0, -3.0]


def likeness(one: list[int], other: list[int]) -> float:
    """The mean cosine of counts of 1- to 4-grams, clipped as CIDEr-D clips them, and its penalty.

    Another way to it than the library's: over all grams that there could be.
    """
    cosines = []
    for n in range(1, 5):
        a, b = ([tuple(c[i : i + n]) for i in range(len(c) - n + 1)] for c in (one, other))
        grams = sorted({*a, *b})
        x, y = (np.array([float(each.count(gram)) for gram in grams]) for each in (a, b))
        size = math.sqrt((x @ x) * (y @ y))
        cosines.append(float(np.minimum(x, y) @ y) / size if size else 0.0)
    return float(np.mean(cosines)) * math.exp(-((len(one) - len(other)) ** 2) / (2 * 6.0**2))


@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_agreement_is_the_weighted_mean_of_likeness(sharpness: float):
    found = agreement(CAPTIONS, SCORES, sharpness)
    weights = [math.exp(sharpness * score) for score in SCORES]
    for one, agreed in zip(CAPTIONS, found, strict=True):
        expected = sum(
            weight * likeness(one, other) for weight, other in zip(weights, CAPTIONS, strict=True)
        )
        assert agreed == pytest.approx(expected / sum(weights), abs=1e-12)


def test_what_most_say_wins_over_what_is_likeliest_alone():
    alone, *others = [[9, 8, 7, 6], [1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 4, 5]]
    scores = [-0.9, -1.0, -1.0, -1.0]
    assert agreement([alone, *others], scores, 1.0).argmax() == 1
    assert agreement([alone, *others], scores, 50.0).argmax() == 0  # so sharp that only it counts


def test_scores_far_below_zero_are_no_problem():
    found = agreement([[4, 5], [4, 6]], [-9000.0, -9001.0], 3.0)
    assert np.isfinite(found).all() and found[0] > found[1]


def test_a_search_ranks_the_same_beams_by_their_agreement(make_decoder):
    options = {"width": 6, "length_penalty": 0.5, "trace": True}
    decoder, annotations = make_decoder(), torch.randn(8, 9, 6)
    plain = search(decoder, annotations, **options)

    def ranked(found: list[Hypothesis]) -> list[Hypothesis]:
        agreed = agreement([h.ids for h in found], [h.score for h in found], 2.0)
        scored = [replace(h, score=float(s)) for h, s in zip(found, agreed, strict=True)]
        return sorted(scored, key=lambda h: -h.score)

    agreed = search(decoder, annotations, consensus=2.0, **options)
    assert_same(agreed, [ranked(found) for found in plain])
    assert any(one[0].ids != other[0].ids for one, other in zip(plain, agreed, strict=True))
