from __future__ import annotations

import pytest

from captioner.metrics.diversity import diversity, novelty
from captioner.metrics.metric import estimates, with_intervals

CAPTIONS = [text.split() for text in ("a dog runs", "a dog runs", "a cat", "")]


def test_numbers_are_those_counted_by_hand():
    # 8 words, of which a, dog, runs, cat differ; pairs: a-dog, dog-runs, a-cat; captions: 3 of 4.
    assert diversity(CAPTIONS) == {
        "distinct-1": pytest.approx(100 * 4 / 8),
        "distinct-2": pytest.approx(100 * 3 / 8),
        "unique-captions": pytest.approx(100 * 3 / 4),
        "vocabulary-used": 4,
    }


def test_pairs_of_words_never_span_two_captions():
    assert diversity([["a"], ["b"], ["a"]])["distinct-2"] == 0


def test_saying_the_same_of_every_image_is_the_least_diverse():
    varied = diversity([["a", str(i)] for i in range(50)])
    same = diversity([["a", "dog"]] * 50)
    assert all(same[name] < varied[name] for name in same)
    assert same["unique-captions"] == 2


def test_captions_without_words_have_no_diversity():
    assert diversity([[], []]) == {
        "distinct-1": 0, "distinct-2": 0, "unique-captions": 50, "vocabulary-used": 0,
    }  # fmt: skip


def test_novel_is_what_no_training_caption_says():
    training = [["a", "dog", "runs"], ["a", "dog"], ["a", "cat", "sits"], []]
    assert estimates([novelty(CAPTIONS, training)]) == {"novel-captions": 25}
    result = with_intervals([novelty(CAPTIONS * 50, iter(training))])
    assert 15 < result["novel-captions-low"] < 25 < result["novel-captions-high"] < 35


def test_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1 caption"):
        diversity([])
