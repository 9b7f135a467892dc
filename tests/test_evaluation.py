"""A split is decoded once per image and its text is scored against the raw references."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import SIDE, build_tiny, scenes

from captioner.config import MetricOptions, SearchOptions
from captioner.data.images import Transform
from captioner.data.loader import ImageSource
from captioner.data.records import Record
from captioner.evaluation import Decoded, Evaluation, checks_attention, decode, evaluate
from captioner.grid import Grid
from captioner.metrics.bleu import bleu
from captioner.metrics.metric import with_intervals
from captioner.models.decoder import Trace
from captioner.search import Hypothesis
from captioner.vocabulary import TOKENIZER, Vocabulary, words

GRID = Grid(16, 16, stride=6, offset=3, size=96)
TRANSFORM = Transform(96, "squash")
VOCABULARY = Vocabulary.build(
    text for split in ("train", "val") for record in scenes(split) for text in record.captions
)


def hypothesis(ids: list[int], alpha: torch.Tensor | None = None) -> Hypothesis:
    trace = None if alpha is None else Trace(alpha, *[torch.zeros(len(ids), 1)] * 7)
    return Hypothesis(ids, -1.0, -1.0, torch.zeros(len(ids)), trace, ended=True)


def decoded(record: Record, text: str, *worse: str) -> Decoded:
    return Decoded(record, [hypothesis(VOCABULARY.encode(t)[:-1]) for t in (text, *worse)])


def scored(
    items: list[Decoded], vocabulary: Vocabulary = VOCABULARY, **search: float
) -> Evaluation:
    options = SearchOptions(width=3, **search)
    return evaluate(items, vocabulary, GRID, TRANSFORM, options, MetricOptions())


def test_a_consensus_is_told_beside_the_width():
    items = [decoded(record, record.captions[0]) for record in scenes("val")]
    assert scored(items, consensus=2.5).metrics == {**scored(items).metrics, "consensus": 2.5}


@pytest.mark.parametrize(
    ("image_id", "written"),
    [("391895", 391895), ("0", 0), ("007", "007"), ("12_a.jpg", "12_a.jpg"), ("٣", "٣")],
)
def test_coco_s_ids_are_numbers_as_its_server_wants_them(image_id: str, written: int | str):
    record = replace(scenes("val")[0], image_id=image_id)
    (entry,) = scored([decoded(record, record.captions[0])]).captions
    assert entry["image_id"] == written and type(entry["image_id"]) is type(written)


def test_metrics_have_every_key_of_the_contract_and_captions_are_coco_results():
    records = scenes("val")
    result = scored([decoded(record, record.captions[0]) for record in records])
    expected = {f"bleu-{n}{bp}" for n in range(1, 5) for bp in ("", "-no-bp")}
    expected |= {"cider", "rouge-l", "words-per-caption", "true"}
    expected |= {f"{name}{end}" for name in expected for end in ("-low", "-high")}
    expected |= {"distinct-1", "distinct-2", "unique-captions", "vocabulary-used"}
    expected |= {"tokenizer", "images", "width"}
    assert result.metrics.keys() == expected
    assert [result.metrics[key] for key in ("images", "width", "tokenizer")] == [5, 3, TOKENIZER]
    assert json.loads(json.dumps(result.metrics)) == result.metrics  # plain numbers, flat
    assert result.captions == [
        {"image_id": record.image_id, "caption": " ".join(words(record.captions[0]))}
        for record in records
    ]


def test_a_split_is_scored_as_one_corpus_by_the_best_hypotheses():
    records = scenes("val")
    texts = [record.captions[2] for record in records[:3]] + ["there is a circle"] * 2
    result = scored([decoded(r, t, "a a a a") for r, t in zip(records, texts, strict=True)])
    references = [[words(text) for text in record.captions] for record in records]
    expected = with_intervals([bleu([words(text) for text in texts], references)])
    assert {name: result.metrics[name] for name in expected} == expected


def test_references_are_raw_so_a_rare_word_is_no_hit():
    """A reference word outside the vocabulary stays itself, however it is cased or punctuated."""
    vocabulary = Vocabulary(["a", "dog", "runs"])
    record = Record("1", Path("1.jpg"), ["A QUOKKA, runs!"], "val")
    ids = vocabulary.encode("a dog runs")[:-1]
    result = scored([Decoded(record, [hypothesis(ids)])], vocabulary)
    assert result.metrics["bleu-1"] == pytest.approx(200 / 3)
    unknown = vocabulary.encode("a quokka runs")[:-1]
    result = scored([Decoded(record, [hypothesis(unknown)])], vocabulary)
    assert result.metrics["bleu-1"] == pytest.approx(200 / 3)  # `<unk>` is not "quokka"


def test_captions_of_scenes_are_checked_for_truth():
    records = scenes("val")
    items = [decoded(record, record.captions[3]) for record in records[:4]]
    items.append(decoded(records[4], "there are three small circles"))
    assert scored(items).metrics["true"] == pytest.approx(80)
    assert "true" not in scored([decoded(Record("1", Path("1"), ["a"], "val"), "a")]).metrics


def test_attention_is_checked_against_where_the_objects_are():
    """α on the centre of the named object hits it; α on the picture's farther edge misses."""
    record = next(r for r in scenes() if len(r.image.groups) == 1 == len(r.image.groups[0].shapes))
    shape = record.image.groups[0].shapes[0]
    ids = VOCABULARY.encode(record.captions[0])[:-1]
    row, column = int(shape.y * 16), int(shape.x * 16)
    on, off = torch.zeros(2, len(ids), 256)
    on[:, 16 * row + column] = 1
    off[:, 16 * row + (15 if shape.x < 0.5 else 0)] = 1
    there, elsewhere = (
        scored([Decoded(record, [hypothesis(ids, alpha)])]).metrics for alpha in (on, off)
    )
    assert (there["pointing"], elsewhere["pointing"]) == (100, 0)
    assert there["attention-inside"] == pytest.approx(100)
    assert elsewhere["attention-inside"] == pytest.approx(0, abs=1e-9)
    assert there["attention-entropy"] == pytest.approx(0, abs=1e-9)


def test_attention_is_averaged_over_looks_but_resampled_by_image():
    """Of two images one names its object twice: two of three looks hit, from one of two images."""
    record = next(r for r in scenes() if len(r.image.groups) == 1 == len(r.image.groups[0].shapes))
    group, shape = record.image.groups[0], record.image.groups[0].shapes[0]
    name = f"{group.colour} {group.kind}"
    cell = 16 * int(shape.y * 16) + int(shape.x * 16)
    items = []
    for text, location in ((f"{name} {name}", cell), (name, 0)):
        ids = VOCABULARY.encode(text)[:-1]
        alpha = torch.zeros(len(ids), 256)
        alpha[:, location] = 1
        items.append(Decoded(record, [hypothesis(ids, alpha)]))
    metrics = scored(items).metrics
    assert metrics["pointing"] == pytest.approx(200 / 3)
    assert (metrics["pointing-low"], metrics["pointing-high"]) == (0, 100)


def test_traces_are_asked_for_where_it_is_known_where_things_are():
    assert checks_attention(scenes("val"))
    assert not checks_attention([Record("1", Path("1.jpg"), ["a dog"], "val")])


def test_an_empty_split_is_refused():
    with pytest.raises(ValueError, match="at least 1 image"):
        scored([])


def test_what_a_probe_found_is_scored_beside_what_traces_tell():
    records = scenes("val")
    plain = [decoded(record, record.captions[0]) for record in records]
    probed = [item._replace(probed={"x": [1.0, 4.0]}) for item in plain[:2]] + plain[2:]
    assert scored(probed).metrics["x"] == pytest.approx(2.5)
    assert scored(probed).metrics.keys() - scored(plain).metrics.keys() == {"x", "x-low", "x-high"}


# Decoding.


class Counting(ImageSource):
    def __init__(self):
        super().__init__(Transform(SIDE, "squash"))
        self.seen: Counter[str] = Counter()

    def __call__(self, record: Record) -> torch.Tensor:
        self.seen[record.image_id] += 1
        return super().__call__(record)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return build_tiny().model.eval()


@pytest.mark.parametrize("strategy", ["greedy", "beam"])
def test_each_image_is_decoded_once_however_many_references_it_has(model, strategy: str):
    records, source = scenes(), Counting()
    options = SearchOptions(strategy, width=2, max_length=6)
    found = list(decode(model, records, source, options, batch=5))
    assert [item.record for item in found] == records
    assert source.seen == Counter({record.image_id: 1 for record in records})
    assert {len(item.hypotheses) for item in found} == {1 if strategy == "greedy" else 2}


def test_neither_batches_nor_workers_change_what_is_written(model):
    records, source = scenes("val"), ImageSource(Transform(SIDE, "squash"))
    options = SearchOptions(width=3, max_length=6)
    runs = [
        list(decode(model, records, source, options, batch, workers, trace=True))
        for batch, workers in ((1, 0), (5, 0), (2, 1))
    ]
    for run in runs[1:]:
        for one, other in zip(runs[0], run, strict=True):
            assert one.hypotheses[0].ids == other.hypotheses[0].ids
            pair = (one.hypotheses[0].log_prob, other.hypotheses[0].log_prob)
            assert pair[0] == pytest.approx(pair[1], abs=1e-4)


@pytest.mark.parametrize("batch", [2, 5])
def test_a_probe_sees_each_batch_with_its_annotations(model, batch: int):
    records, source = scenes("val"), ImageSource(Transform(SIDE, "squash"))

    def probe(records, annotations, hypotheses):
        assert len(records) == len(annotations) == len(hypotheses) <= batch
        expected = model.annotate(torch.stack([source(record) for record in records]))
        assert torch.allclose(annotations, expected, atol=1e-5)
        ids = zip(records, hypotheses, strict=True)
        return [{record.image_id: [len(best.ids)]} for record, best in ids]

    found = list(decode(model, records, source, SearchOptions(max_length=5), batch, probe=probe))
    for record, item in zip(records, found, strict=True):
        assert item.probed == {record.image_id: [len(item.hypotheses[0].ids)]}


def test_traces_are_kept_only_where_they_are_asked_for(model):
    source, options = ImageSource(Transform(SIDE, "squash")), SearchOptions(max_length=5)
    (bare,) = decode(model, scenes()[:1], source, options)
    (traced,) = decode(model, scenes()[:1], source, options, trace=True)
    assert bare.hypotheses[0].trace is None
    alpha = traced.hypotheses[0].trace.alpha
    grid = model.encoder.grid
    assert alpha.shape == (len(traced.hypotheses[0].ids), grid.height * grid.width)
    assert np.allclose(alpha.sum(-1), 1, atol=1e-5)
