"""A metric's rows give its score, its bootstrap and its paired differences for any selection."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import sentences

from captioner.metrics.bleu import bleu
from captioner.metrics.bootstrap import resample
from captioner.metrics.cider import cider
from captioner.metrics.metric import Metric, estimates, mean, resampled, with_intervals
from captioner.metrics.rouge import rouge_l

HYPOTHESES, REFERENCES = sentences(0, n=200)
ALL = [metric(HYPOTHESES, REFERENCES) for metric in (bleu, cider, rouge_l)]


def test_every_estimate_has_its_interval_around_it():
    kinds = [f"bleu-{order}{suffix}" for suffix in ("", "-no-bp") for order in range(1, 5)]
    kinds += ["cider", "rouge-l"]
    result = with_intervals(ALL)
    assert list(result) == [kind + end for kind in kinds for end in ("", "-low", "-high")]
    assert {name: result[name] for name in kinds} == estimates(ALL)
    for kind in kinds:
        assert result[f"{kind}-low"] < result[kind] < result[f"{kind}-high"]
        assert isinstance(result[kind], float)


@pytest.mark.parametrize("metric", [bleu, rouge_l])
def test_a_resample_is_the_score_of_the_images_drawn(metric):
    """Images counted twice score as they do when they are there twice."""
    whole, counts = metric(HYPOTHESES, REFERENCES), np.arange(200) % 3
    drawn = [i for i, count in enumerate(counts) for _ in range(count)]
    there = metric([HYPOTHESES[i] for i in drawn], [REFERENCES[i] for i in drawn])
    assert whole.score(counts @ whole.rows) == pytest.approx(there.score(there.rows.sum(0)))


def test_resamples_are_the_same_for_all_metrics_of_as_many_images():
    values = np.random.default_rng(0).normal(size=50)
    one = resampled([mean("a", values), mean("b", values)])
    other = resampled([mean("c", values + 1)])
    assert (one["a"] == one["b"]).all()
    assert other["c"] - one["a"] == pytest.approx(np.ones(1000))
    assert one["a"] == pytest.approx(resample(lambda counts: counts @ values / 50, 50))


def test_a_mean_is_over_what_the_images_hold():
    metric = mean("hit", np.array([2.0, 0.0, 0.5]), np.array([4, 0, 1]))
    assert estimates([metric]) == {"hit": 0.5}
    assert metric.score(np.array([0, 3, 1]) @ metric.rows) == [0.5]
    assert metric.score(np.array([0, 5, 0]) @ metric.rows) == [0]  # images that hold nothing


def test_scores_of_sums_keep_their_shape():
    for metric in ALL:
        assert isinstance(metric, Metric)
        sums = np.ones((2, 3, 200)) @ metric.rows
        assert metric.score(sums).shape == (2, 3, len(metric.names))


@pytest.mark.parametrize("metric", [bleu, cider, rouge_l])
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
def test_mistakes_are_named(metric, hypotheses: list, references: list, message: str):
    with pytest.raises(ValueError, match=message):
        metric(hypotheses, references)
