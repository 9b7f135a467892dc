from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import as_coco, sentences

from captioner.metrics.cider import CiderD, cider
from captioner.metrics.metric import estimates
from captioner.vocabulary import words

split = str.split

# Two images; "a" is in references of both, so log(2/2) = 0 is its weight and log(2/1) that of all
# other n-grams, which cancels in each cosine.
#   "a dog" against "a dog runs": 1-grams dog / dog runs: 1/√2; 2-grams 1/√2; 3- and 4-grams 0;
#     1 pair of words against 2: exp(-1 / (2 · 6²))
#   "a dog" against "a dog": 1, 1, 0, 0
#   "cat cat" against "a cat": 1-grams: "cat" twice, clipped to once: 1 / (2 · 1); 2-grams 0
HYPOTHESES = [split("a dog"), split("cat cat")]
REFERENCES = [[split("a dog runs"), split("a dog")], [split("a cat")]]
EXPECTED = [1000 / 4 * (math.sqrt(2) * math.exp(-1 / 72) + 2) / 2, 1000 / 4 / 2]


def test_scores_are_those_worked_out_by_hand():
    found = CiderD(REFERENCES)(HYPOTHESES, REFERENCES)
    assert found.tolist() == pytest.approx(EXPECTED)
    assert estimates([cider(HYPOTHESES, REFERENCES)]) == {"cider": pytest.approx(sum(EXPECTED) / 2)}


def assert_equals_pycocoevalcap(hypotheses: list, references: list) -> None:
    module = pytest.importorskip("pycocoevalcap.cider.cider", reason="needs pycocoevalcap")
    corpus, each = module.Cider().compute_score(*as_coco(hypotheses, references))
    assert 100 * each == pytest.approx(CiderD(references)(hypotheses, references), abs=1e-6)
    assert estimates([cider(hypotheses, references)])["cider"] == pytest.approx(
        100 * corpus, abs=1e-6
    )


@pytest.mark.parametrize("seed", range(5))
def test_it_equals_pycocoevalcap(seed: int):
    assert_equals_pycocoevalcap(*sentences(seed, n=1 + 20 * seed))


def test_it_equals_pycocoevalcap_on_real_captions(flickr8k_captions: list[list[str]]):
    """One caption of each image against its other four."""
    captions = [[words(text) for text in several] for several in flickr8k_captions]
    assert_equals_pycocoevalcap([c[0] for c in captions], [c[1:] for c in captions])


def test_frequencies_may_be_those_of_other_images():
    """As a reward: of the training set, of which a batch is scored, a caption at a time or all."""
    hypotheses, references = sentences(1, n=60)
    scorer = CiderD(references)
    all_together = scorer(hypotheses, references)
    alone = [scorer([h], [r])[0] for h, r in zip(hypotheses, references, strict=True)]
    assert all_together.tolist() == alone
    repeated = scorer(hypotheses[:3] * 2, references[:3] * 2)
    assert repeated.tolist() == [*alone[:3]] * 2
    assert (CiderD(references[:9])(hypotheses, references) != all_together).any()


def test_words_that_few_images_share_count_most():
    references = [[split("a dog runs")], *[[split(f"a cat sits {i}")] for i in range(8)]]
    rare, common = CiderD(references)([["runs"], ["a"]], [references[0]] * 2)
    assert rare > common == 0


def test_the_best_and_the_worst():
    references = [[split("a dog runs fast")], [split("two cats sit here")]]
    hypotheses = [split("a dog runs fast"), []]
    assert CiderD(references)(hypotheses, references).tolist() == pytest.approx([1000, 0])
    assert np.all(CiderD(references[:1])([["a"], []], references) == 0)  # of one image: all weigh 0


def test_frequencies_need_an_image():
    with pytest.raises(ValueError, match="at least 1 image, got none"):
        CiderD([])
