"""The caption that says best what all of a search's captions say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from captioner.consensus import agreement
from captioner.search import search

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


@pytest.mark.parametrize("trace", [False, True])
def test_a_search_ranks_the_same_beams_by_their_agreement(make_decoder, trace: bool):
    decoder, annotations = make_decoder(), torch.randn(8, 9, 6)
    plain = search(decoder, annotations, width=6, length_penalty=0.5, trace=trace)
    agreed = search(decoder, annotations, width=6, length_penalty=0.5, consensus=2.0, trace=trace)
    for before, after in zip(plain, agreed, strict=True):
        expected = agreement([h.ids for h in before], [h.score for h in before], 2.0)
        by_words = {(tuple(h.ids), h.ended): (h, e) for h, e in zip(before, expected, strict=True)}
        assert len(after) == len(by_words) == 6
        for hypothesis in after:
            same, score = by_words[tuple(hypothesis.ids), hypothesis.ended]
            assert hypothesis.score == pytest.approx(score)
            assert hypothesis.log_prob == same.log_prob
            assert_the_same_look(hypothesis.trace, same.trace)
        assert [h.score for h in after] == sorted((h.score for h in after), reverse=True)
    assert any(b[0].ids != a[0].ids for b, a in zip(plain, agreed, strict=True))


def assert_the_same_look(ours: tuple[Tensor, ...] | None, theirs: tuple[Tensor, ...] | None):
    assert (ours is None) == (theirs is None)
    for part, other in zip(ours or (), theirs or (), strict=True):
        assert torch.equal(part, other)
