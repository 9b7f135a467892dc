"""One function scores everyone's captions; what needs Java is asked for by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import seconds
from tiny import scenes

from captioner import scoring
from captioner.config import MetricOptions
from captioner.data.records import Record
from captioner.metrics.bleu import bleu
from captioner.metrics.cider import cider
from captioner.metrics.java import PTB_TOKENIZER, UnavailableError
from captioner.metrics.metric import mean, with_intervals
from captioner.metrics.rouge import rouge_l
from captioner.scoring import score
from captioner.vocabulary import TOKENIZER, words

TEXTS = ["A dog runs .", "Two cats, asleep!", "A dog jumps"]
RECORDS = [
    Record(str(i), Path(f"{i}.jpg"), [text, f"{text} on grass"], "val")
    for i, text in enumerate(TEXTS)
]
CAPTIONS = ["a dog runs", "a cat asleep", "A DOG, runs."]


def test_scores_are_those_of_the_metrics_over_words():
    result = score(CAPTIONS, RECORDS, MetricOptions())
    hypotheses = [words(text) for text in CAPTIONS]
    references = [[words(text) for text in record.captions] for record in RECORDS]
    expected = with_intervals([m(hypotheses, references) for m in (bleu, cider, rouge_l)])
    found = result.with_intervals()
    assert {name: found[name] for name in expected} == expected
    assert found["words-per-caption"] == 3 and result.skipped == []
    assert (found["unique-captions"], found["vocabulary-used"]) == (pytest.approx(200 / 3), 5)
    assert (found["tokenizer"], found["images"]) == (TOKENIZER, 3)
    bare = result.estimates()
    assert bare.items() <= found.items()
    assert found.keys() - bare.keys() == {n for n in found if n.endswith(("-low", "-high"))}


def test_novelty_is_told_where_training_captions_are_given():
    assert "novel-captions" not in score(CAPTIONS, RECORDS, MetricOptions()).estimates()
    training = ["A dog runs!", "a dog jumps"]
    found = score(CAPTIONS, RECORDS, MetricOptions(), training).estimates()
    assert found["novel-captions"] == pytest.approx(100 / 3)


def test_captions_of_scenes_are_checked_for_truth():
    records = scenes("val")
    captions = [record.captions[0].upper() for record in records[:4]] + ["there are three cats"]
    assert score(captions, records, MetricOptions()).estimates()["true"] == pytest.approx(80)


def test_java_adds_what_can_be_had_and_says_what_can_not(monkeypatch: pytest.MonkeyPatch):
    def unavailable(*_: object) -> None:
        raise UnavailableError("SPICE: needs something")

    monkeypatch.setattr(scoring, "meteor", lambda h, r, limit: mean("meteor", [limit] * len(h)))
    monkeypatch.setattr(scoring, "spice", unavailable)
    plain = score(CAPTIONS, RECORDS, MetricOptions(time_limit=7))
    asked = score(CAPTIONS, RECORDS, MetricOptions(java=True, time_limit=7))
    assert asked.estimates() == {**plain.estimates(), "meteor": 7}
    assert (plain.skipped, asked.skipped) == ([], ["SPICE: needs something"])


def test_the_tokenizer_is_named_and_scores_all_captions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scoring, "ptb_words", lambda texts, _: [["the", "same"] for _ in texts])
    found = score(CAPTIONS, RECORDS, MetricOptions(tokenizer="ptb"), TEXTS).estimates()
    assert found["tokenizer"] == PTB_TOKENIZER
    assert (found["bleu-1"], found["novel-captions"]) == (100, 0)


def test_a_tokenizer_without_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="PTB tokens: needs Java, and there is no java here"):
        score(CAPTIONS, RECORDS, MetricOptions(tokenizer="ptb"))


@pytest.mark.no_cover  # which would be timed too
def test_a_thousand_captions_take_under_three_seconds():
    texts = [
        f"a {i % 7} dog of {i % 31} runs over {i % 5} green lawns quickly" for i in range(6000)
    ]
    records = [Record(str(i), Path("x"), texts[i : i + 5], "val") for i in range(1000)]
    assert (
        seconds(lambda: score(texts[-1000:], records, MetricOptions(), texts).with_intervals()) < 3
    )
