from __future__ import annotations

import itertools

import numpy as np
import pytest
from helpers import as_coco, sentences

from captioner.metrics.metric import estimates
from captioner.metrics.rouge import common_length, rouge_l
from captioner.vocabulary import words

split = str.split


def test_the_score_is_that_worked_out_by_hand():
    # "a red dog runs" has "a dog runs" of the first reference: precision 3/4, recall 3/5; and
    # "red dog", all of the second: precision 2/4, recall 2/2. The best of each: 3/4 and 1.
    references = [[split("a dog runs fast now"), split("red dog")]]
    expected = 100 * (1 + 1.44) * 0.75 * 1 / (1 + 1.44 * 0.75)
    assert estimates([rouge_l([split("a red dog runs")], references)]) == {
        "rouge-l": pytest.approx(expected)
    }


def assert_equals_pycocoevalcap(hypotheses: list, references: list) -> None:
    module = pytest.importorskip("pycocoevalcap.rouge.rouge", reason="needs pycocoevalcap")
    corpus, each = module.Rouge().compute_score(*as_coco(hypotheses, references))
    ours = rouge_l(hypotheses, references)
    assert 100 * each == pytest.approx(ours.score(ours.rows)[:, 0], abs=1e-6)
    assert estimates([ours])["rouge-l"] == pytest.approx(100 * corpus, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_it_equals_pycocoevalcap(seed: int):
    assert_equals_pycocoevalcap(*sentences(seed, n=1 + 20 * seed))


def test_it_equals_pycocoevalcap_on_real_captions(flickr8k_captions: list[list[str]]):
    """One caption of each image against its other four."""
    captions = [[words(text) for text in several] for several in flickr8k_captions]
    assert_equals_pycocoevalcap([c[0] for c in captions], [c[1:] for c in captions])


def test_the_common_subsequence_is_the_longest_of_all():
    """Against trying every subsequence."""
    for seed in range(20):
        a, b = (list(np.random.default_rng([seed, i]).choice(list("abc"), 6 + i)) for i in (0, 1))
        theirs = {s for n in range(7) for s in itertools.combinations(b, n)}
        ours = (s for n in range(7) for s in itertools.combinations(a, n) if s in theirs)
        assert common_length(a, b) == max(map(len, ours)) == common_length(b, a)


def test_the_best_and_the_worst():
    references = [[split("a dog runs")]] * 3
    metric = rouge_l([split("a dog runs"), split("two cats"), []], references)
    assert metric.score(metric.rows)[:, 0].tolist() == pytest.approx([100, 0, 0])
