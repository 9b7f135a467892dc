from __future__ import annotations

import math
import time
import warnings

import numpy as np
import pytest
from nltk.translate import bleu_score

from captioner.metrics.bleu import ORDERS, bleu, bleu_statistics, corpus_bleu

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


def sentences(seed: int, n: int) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Captions of 0 to 9 words out of six, and 1 to 5 references: all sorts of partial matches."""
    generator = np.random.default_rng(seed)

    def sentence(shortest: int) -> list[str]:
        return list(generator.choice(list("abcdef"), generator.integers(shortest, 10)))

    hypotheses = [sentence(0) for _ in range(n)]
    references = [[sentence(1) for _ in range(generator.integers(1, 6))] for _ in range(n)]
    return hypotheses, references


def test_statistics_are_those_counted_by_hand():
    assert bleu_statistics(HYPOTHESES, REFERENCES).tolist() == ROWS


def test_bleu_is_the_value_worked_out_by_hand():
    statistics = np.array(ROWS)
    # Matches over both images: 8 of 9 words, 6 of 7 pairs, 3 of 5 triples, 1 of 3 quadruples.
    # 9 words against 6 of the closest references: no brevity penalty.
    assert bleu(statistics, 1) == pytest.approx(100 * 8 / 9)
    assert bleu(statistics, 2) == pytest.approx(100 * math.sqrt(8 / 9 * 6 / 7))
    assert bleu(statistics, 3) == pytest.approx(100 * (8 / 9 * 6 / 7 * 3 / 5) ** (1 / 3))
    assert bleu(statistics, 4) == pytest.approx(100 * (8 / 9 * 6 / 7 * 3 / 5 * 1 / 3) ** (1 / 4))


def test_brevity_penalty_is_that_of_the_paper():
    # 3 words, all right, against a reference of 5: precision 1, penalty exp(1 - 5/3).
    statistics = bleu_statistics([list("abc")], [[list("abcde")]])
    assert bleu(statistics, 2) == pytest.approx(100 * math.exp(1 - 5 / 3))
    assert bleu(statistics, 2, brevity_penalty=False) == pytest.approx(100)


@pytest.mark.parametrize("seed", range(20))
def test_bleu_equals_nltk(seed: int):
    hypotheses, references = sentences(seed, n=1 + 5 * seed)
    statistics = bleu_statistics(hypotheses, references)
    for order in ORDERS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nltk warns where it scores zero matches
            theirs = bleu_score.corpus_bleu(references, hypotheses, weights=[1 / order] * order)
        assert bleu(statistics, order) == pytest.approx(100 * theirs, abs=1e-9)


@pytest.mark.parametrize("hypothesis", [[], ["z"], list("zzzzz")])
def test_nothing_in_common_scores_zero_without_a_warning(hypothesis: list[str]):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(corpus_bleu([hypothesis], [[list("abcd")]]).values()) == {0.0}


def test_perfect_captions_score_a_hundred():
    result = corpus_bleu([list("abcdef"), list("bcdf")], [[list("abcdef")], [list("bcdf")]])
    assert list(result.values()) == pytest.approx([100.0] * 24)


def test_the_flat_result_has_every_key_and_intervals_around_the_estimates():
    result = corpus_bleu(*sentences(0, n=200))
    kinds = [f"bleu-{order}{suffix}" for suffix in ("", "-no-bp") for order in ORDERS]
    assert set(result) == {kind + end for kind in kinds for end in ("", "-low", "-high")}
    for kind in kinds:
        assert result[f"{kind}-low"] < result[kind] < result[f"{kind}-high"]


def test_without_the_penalty_short_captions_score_higher():
    hypotheses, references = sentences(3, n=50)
    result = corpus_bleu([words[:3] for words in hypotheses], references)
    for order in (1, 2):
        assert result[f"bleu-{order}-no-bp"] > result[f"bleu-{order}"] > 0


def test_the_result_is_the_same_each_time():
    assert corpus_bleu(*sentences(1, n=50)) == corpus_bleu(*sentences(1, n=50))


def test_order_of_the_images_does_not_matter_to_the_score():
    statistics = bleu_statistics(*sentences(2, n=50))
    assert bleu(statistics[::-1]) == bleu(statistics)


def test_corpus_bleu_is_not_the_mean_over_batches():
    # One batch has 4 of 4 words right, the other 1 of 8: 5 of 12, not the mean of 1 and 1/8.
    right = bleu_statistics([list("abcd")], [[list("abcd")]])
    wrong = bleu_statistics([list("azzzzzzz")], [[list("abcdefgh")]])
    both = np.concatenate([right, wrong])
    assert bleu(both, 1) == pytest.approx(100 * 5 / 12)
    assert (bleu(right, 1) + bleu(wrong, 1)) / 2 == pytest.approx(100 * (1 + 1 / 8) / 2)


def test_a_thousand_images_with_all_intervals_take_under_two_seconds():
    hypotheses, references = sentences(4, n=1000)
    start = time.process_time()
    corpus_bleu(hypotheses, references)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ([], [], "at least 1 image"),
        ([["a"]], [], "1 hypotheses and references of 0 images"),
        ([["a"], ["a"]], [[["a"]], []], "number 1 has none"),
        (["a dog"], [[["a", "dog"]]], "number 0 is a string"),
        ([["a", "dog"]], [["a dog"]], "number 0 is a string"),
        ([["a", "dog"]], ["a dog"], "number 0 is a string"),
    ],
)
def test_mistakes_are_named(hypotheses: list, references: list, message: str):
    with pytest.raises(ValueError, match=message):
        corpus_bleu(hypotheses, references)


def test_an_order_out_of_range_and_no_images_are_refused():
    with pytest.raises(ValueError, match="orders 1 to 4, got 5"):
        bleu(np.array(ROWS), order=5)
    with pytest.raises(ValueError, match="at least 1 image"):
        bleu(np.array(ROWS)[:0])
