from __future__ import annotations

import math
import warnings

import pytest
from helpers import seconds, sentences
from nltk.translate import bleu_score

from captioner.metrics.bleu import ORDERS, bleu, bleu_statistics
from captioner.metrics.metric import estimates, with_intervals

split = str.split

# Two captions with two references each. n-grams that a reference has, clipped to its count:
#   "a red dog runs"     against "a red dog jumps", "the dog runs fast now"
#     1: a red dog runs = 4 of 4     2: a-red red-dog dog-runs = 3 of 3
#     3: a-red-dog = 1 of 2          4: none = 0 of 1        length 4, closest reference 4
#   "a a cat sits there" against "a cat sits there quietly on the mat", "one cat"
#     1: "a" once, cat sits there = 4 of 5   2: a-cat cat-sits sits-there = 3 of 4
#     3: a-cat-sits cat-sits-there = 2 of 3  4: a-cat-sits-there = 1 of 2
#     length 5; the references are 8 and 2 words, both 3 away: the shorter, 2
HYPOTHESES = [split("a red dog runs"), split("a a cat sits there")]
REFERENCES = [
    [split("a red dog jumps"), split("the dog runs fast now")],
    [split("a cat sits there quietly on the mat"), split("one cat")],
]
ROWS = [[4, 3, 1, 0, 4, 3, 2, 1, 4, 4], [4, 3, 2, 1, 5, 4, 3, 2, 5, 2]]


def scores(hypotheses: list[list[str]], references: list[list[list[str]]]) -> dict[str, float]:
    return estimates([bleu(hypotheses, references)])


def test_statistics_are_those_counted_by_hand():
    assert bleu_statistics(HYPOTHESES, REFERENCES).tolist() == ROWS


def test_bleu_is_the_value_worked_out_by_hand():
    # Matches over both images: 8 of 9 words, 6 of 7 pairs, 3 of 5 triples, 1 of 3 quadruples.
    # 9 words against 6 of the closest references: no brevity penalty.
    expected = {
        "bleu-1": 100 * 8 / 9,
        "bleu-2": 100 * math.sqrt(8 / 9 * 6 / 7),
        "bleu-3": 100 * (8 / 9 * 6 / 7 * 3 / 5) ** (1 / 3),
        "bleu-4": 100 * (8 / 9 * 6 / 7 * 3 / 5 * 1 / 3) ** (1 / 4),
    }
    expected |= {f"{name}-no-bp": value for name, value in expected.items()}
    assert scores(HYPOTHESES, REFERENCES) == pytest.approx(expected)


def test_brevity_penalty_is_that_of_the_paper():
    # 3 words, all right, against a reference of 5: precision 1, penalty exp(1 - 5/3).
    result = scores([list("abc")], [[list("abcde")]])
    assert result["bleu-2"] == pytest.approx(100 * math.exp(1 - 5 / 3))
    assert result["bleu-2-no-bp"] == pytest.approx(100)


@pytest.mark.parametrize("seed", range(20))
def test_bleu_equals_nltk(seed: int):
    hypotheses, references = sentences(seed, n=1 + 5 * seed)
    result = scores(hypotheses, references)
    for order in ORDERS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nltk warns where it scores zero matches
            theirs = bleu_score.corpus_bleu(references, hypotheses, weights=[1 / order] * order)
        assert result[f"bleu-{order}"] == pytest.approx(100 * theirs, abs=1e-9)


@pytest.mark.parametrize("hypothesis", [[], ["z"], list("zzzzz")])
def test_nothing_in_common_scores_zero_without_a_warning(hypothesis: list[str]):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = with_intervals([bleu([hypothesis], [[list("abcd")]])])
    assert set(result.values()) == {0.0}


def test_perfect_captions_score_a_hundred():
    metric = bleu([list("abcdef"), list("bcdf")], [[list("abcdef")], [list("bcdf")]])
    assert list(with_intervals([metric]).values()) == pytest.approx([100.0] * 24)


def test_without_the_penalty_short_captions_score_higher():
    hypotheses, references = sentences(3, n=50)
    result = scores([words[:3] for words in hypotheses], references)
    for order in (1, 2):
        assert result[f"bleu-{order}-no-bp"] > result[f"bleu-{order}"] > 0


def test_order_of_the_images_does_not_matter_to_the_score():
    hypotheses, references = sentences(2, n=50)
    assert scores(hypotheses[::-1], references[::-1]) == scores(hypotheses, references)


def test_corpus_bleu_is_not_the_mean_over_batches():
    # One batch has 4 of 4 words right, the other 1 of 8: 5 of 12, not the mean of 1 and 1/8.
    right, wrong = (list("abcd"), [list("abcd")]), (list("azzzzzzz"), [list("abcdefgh")])
    both, *each = (
        scores(*zip(*images, strict=True))["bleu-1"]
        for images in ([right, wrong], [right], [wrong])
    )
    assert both == pytest.approx(100 * 5 / 12)
    assert sum(each) / 2 == pytest.approx(100 * (1 + 1 / 8) / 2)


@pytest.mark.no_cover  # which would be timed too
def test_a_thousand_images_with_all_intervals_take_under_two_seconds():
    hypotheses, references = sentences(4, n=1000)
    assert seconds(lambda: with_intervals([bleu(hypotheses, references)])) < 2
