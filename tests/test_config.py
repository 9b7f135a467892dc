"""Options check themselves, and a mistake is told in one line that names the option."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from captioner.checkpoint import load_options, save_options
from captioner.config import (
    BenchmarkOptions,
    CaptionOptions,
    CompareOptions,
    DataOptions,
    DecoderOptions,
    EncoderOptions,
    EvaluateOptions,
    GrowthOptions,
    LossOptions,
    MetricOptions,
    SearchOptions,
    SizeOptions,
    SplitOptions,
    TrainingOptions,
    TrainOptions,
    VisualizeOptions,
)
from captioner.data.shapes import SPLITS


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        (DataOptions, {"kind": "imagenet"}, "data.kind is 'imagenet'.* shapes, flickr8k, karpathy"),
        (DataOptions, {"limit": 0}, "data.limit is 0; it must be at least 1"),
        (DataOptions, {"min_count": 0}, "data.min_count"),
        (DataOptions, {"workers": -1}, "data.workers"),
        (DataOptions, {"kind": "flickr8k"}, "data=flickr8k needs data.root"),
        (DataOptions, {"kind": "coco", "file": "a.json"}, "data=coco needs data.root"),
        (DataOptions, {"kind": "karpathy", "root": "."}, "data=karpathy needs data.file"),
        (DataOptions, {"kind": "csv"}, "data=csv needs data.file"),
        (DataOptions, {"kind": "webdataset", "train": "a.tar"}, "needs data.train and data.val"),
        (EncoderOptions, {"fit": "stretch"}, "encoder.fit is 'stretch'.* squash, crop, pad"),
        (EncoderOptions, {"image_size": 8}, "encoder.image_size is 8; it must be at least 16"),
        (EncoderOptions, {"fine_tune_from": -1}, "encoder.fine_tune_from"),
        (EncoderOptions, {"name": "resnet50"}, "encoder=resnet50 needs encoder.node"),
        (DecoderOptions, {"hidden": 0}, "decoder.hidden"),
        (DecoderOptions, {"embedding": 0}, "decoder.embedding"),
        (DecoderOptions, {"attention": -3}, "decoder.attention"),
        (DecoderOptions, {"projection": -1}, "decoder.projection"),
        (DecoderOptions, {"dropout": 1.0}, "decoder.dropout is 1.0; .* at least 0 and below 1"),
        (DecoderOptions, {"beta": "matrix"}, "decoder.beta is 'matrix'.* scalar, vector, none"),
        (DecoderOptions, {"attention_nonlinearity": "gelu"}, "decoder.attention_nonlinearity"),
        (MetricOptions, {"tokenizer": "bert"}, "metrics.tokenizer is 'bert'.* words, ptb"),
        (MetricOptions, {"time_limit": 0}, "metrics.time_limit is 0; it must be at least 1"),
        (CompareOptions, {}, r"captions= is missing; give it a list, e.g. captions=\["),
        (
            DecoderOptions,
            {"attention_kind": "firm"},
            "kind is 'firm'.* soft, hard, multihead",
        ),
        (DecoderOptions, {"heads": 0}, "decoder.heads is 0; it must be at least 1"),
        (
            DecoderOptions,
            {"estimator": "relax"},
            "estimator is 'relax'.* reinforce, gumbel",
        ),
        (DecoderOptions, {"expectation": 1.0}, "decoder.expectation is 1.0; .* below 1"),
        (DecoderOptions, {"temperature": 0.0}, "decoder.temperature is 0.0; it must be above 0"),
        (DecoderOptions, {"cell": "rnn"}, "decoder.cell is 'rnn'.* lstm, peephole, coupled, gru"),
        (DecoderOptions, {"attention_kind": "adaptive"}, "gate of its own: set decoder.beta=none"),
        (LossOptions, {"reinforce": -1.0}, "loss.reinforce"),
        (LossOptions, {"entropy": -1.0}, "loss.entropy"),
        (LossOptions, {"per": "batch"}, "loss.per is 'batch'.* caption, word"),
        (LossOptions, {"objective": "reward"}, "'reward'.* cross_entropy, self_critical"),
        (LossOptions, {"baseline": "zero"}, "loss.baseline is 'zero'.* others, greedy"),
        (LossOptions, {"samples": 1}, "loss.samples is 1; it must be at least 2"),
        (LossOptions, {"samples": 0, "baseline": "greedy"}, "loss.samples is 0; .* at least 1"),
        (
            LossOptions,
            {"objective": "self_critical", "label_smoothing": 0.1},
            "no labels: loss.label_smoothing=0",
        ),
        (
            TrainOptions,
            {"loss": LossOptions(objective="self_critical")},
            "self_critical needs start=, a checkpoint",
        ),
        (
            TrainOptions,
            {
                "start": "x",
                "loss": LossOptions(objective="self_critical"),
                "training": TrainingOptions(scheduled_sampling=0.1),
            },
            "own words alone: training.scheduled_sampling=0",
        ),
        (LossOptions, {"penalty": -0.1}, "loss.penalty"),
        (LossOptions, {"grounding": -0.1}, "loss.grounding is -0.1; it must be at least 0"),
        (
            LossOptions,
            {"objective": "self_critical", "grounding": 1.0},
            "tells of no regions: loss.grounding=0",
        ),
        (LossOptions, {"label_smoothing": 1.5}, "loss.label_smoothing"),
        (TrainingOptions, {"epochs": 0}, "training.epochs"),
        (TrainingOptions, {"threads": 0}, "training.threads"),
        (TrainingOptions, {"patience": 0}, "training.patience"),
        (TrainingOptions, {"save_every": 0}, "training.save_every"),
        (TrainingOptions, {"optimizer": "sgd"}, "training.optimizer is 'sgd'.* adamw, adam"),
        (TrainingOptions, {"schedule": "linear"}, "training.schedule"),
        (TrainingOptions, {"precision": "fp16"}, "training.precision"),
        (TrainingOptions, {"warmup": 1.0}, "training.warmup"),
        (TrainingOptions, {"ema": 1.0}, "training.ema"),
        (TrainingOptions, {"best": "rouge-l"}, "training.best is 'rouge-l'.* bleu-4, cider"),
        (TrainingOptions, {"scheduled_sampling": 1.0}, "scheduled_sampling is 1.0; .* below 1"),
        (TrainingOptions, {"one_length": True}, "one_length needs training.captions_together=1"),
        (TrainingOptions, {"pictures": -1}, "training.pictures"),
        (TrainingOptions, {"accumulation": 9, "batch_images": 8}, "accumulation is 9, more than"),
        (SearchOptions, {"strategy": "best"}, "search.strategy is 'best'.* greedy, beam, sample"),
        (SearchOptions, {"width": 0}, "search.width"),
        (SearchOptions, {"max_length": 3, "min_length": 4}, "min_length is 4, more than the 3"),
        (SearchOptions, {"temperature": 0.0}, "search.temperature is 0.0; it must be above 0"),
        (SearchOptions, {"temperature": float("nan")}, "search.temperature"),
        (SearchOptions, {"top_p": 1.1}, "search.top_p"),
        (SearchOptions, {"block_ngrams": -1}, "search.block_ngrams"),
        (SearchOptions, {"consensus": -1.0}, "search.consensus"),
        (SearchOptions, {"consensus": 3.0, "strategy": "sample"}, "search.strategy is sample"),
        (SizeOptions, {"width": 0}, "sizes.width is 0; it must be at least 1"),
        (SizeOptions, {"cached": [5, 0]}, "sizes.cached is 0"),
        (SizeOptions, {"cached": [5]}, "sizes.cached is .5.; it must be two numbers"),
        (SizeOptions, {"searched": [1, 2, 3]}, "sizes.searched is .*; it must be two numbers"),
        (SizeOptions, {"wide": 0}, "sizes.wide is 0"),
        (SizeOptions, {"vocabulary": 4}, "sizes.vocabulary is 4; it must be at least 5"),
        (GrowthOptions, {"width": [1, 0]}, "grow.width is 0; it must be at least 1"),
        (BenchmarkOptions, {"repeats": 0}, "repeats is 0; it must be at least 1"),
        (EvaluateOptions, {}, "checkpoint= is missing"),
        (VisualizeOptions, {}, "checkpoint= is missing"),
        (CaptionOptions, {"images": "x"}, "checkpoint= is missing"),
        (CaptionOptions, {"checkpoint": "x"}, "images= is missing"),
        (CaptionOptions, {"checkpoint": "x", "images": "x", "batch": 0}, "batch is 0"),
    ],
)
def test_a_value_that_cannot_be_is_named(options: type, given: dict, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        options(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        TrainOptions,
        EvaluateOptions,
        CompareOptions,
        CaptionOptions,
        VisualizeOptions,
        BenchmarkOptions,
    ],
)
def test_hydra_takes_every_option(options: type):
    structured = OmegaConf.structured(options)
    assert set(structured) == set(options.__dataclass_fields__)


def test_options_survive_a_file(tmp_path: Path):
    options = TrainOptions(
        name="größe",
        data=DataOptions(kind="csv", file="a b: c.csv", sizes=dict.fromkeys(SPLITS, 3)),
        encoder=EncoderOptions(learning_rate=1e-5, fine_tune_from=0),
        training=TrainingOptions(patience=3, ema=0.999),
    )
    save_options(tmp_path / "config.yaml", options)
    assert load_options(tmp_path / "config.yaml") == options


def test_a_split_differs_from_training_only_where_it_is_told_to():
    trained = DataOptions("coco", "root", images="images", limit=10, min_count=3, cache="disk")
    same = SplitOptions().over(trained)
    assert same == DataOptions(
        "coco", "root", images="images", min_count=3, cache="disk", workers=0
    )
    other = SplitOptions(split="test", root="elsewhere", limit=2, cache="here").over(trained)
    assert (other.split, other.root, other.limit, other.cache) == ("test", "elsewhere", 2, "here")
    assert (other.kind, other.images, other.min_count) == ("coco", "images", 3)


def test_only_an_encoder_that_is_fine_tuned_some_day_is_tuned():
    assert [EncoderOptions(fine_tune_from=epoch).tuned for epoch in (None, 0, 3)] == [0, 1, 1]


def test_an_encoder_is_cached_as_far_as_it_is_fixed():
    assert [EncoderOptions(fine_tune_from=epoch).cached for epoch in (None, 0, 3)] == [1, 0, 0]
    assert EncoderOptions(fine_tune_from=0, fine_tune_above="layer3").cached
    frozen = EncoderOptions(fine_tune_above="layer3")
    assert frozen.cached and frozen.fixed_node is None


def test_a_run_that_starts_from_another_has_its_data_and_model_and_no_more():
    trained = TrainOptions(
        data=DataOptions("coco", "root", images="images", limit=10, cache="disk", workers=2),
        encoder=EncoderOptions(image_size=64, fine_tune_from=3, learning_rate=1e-5),
        decoder=DecoderOptions(hidden=7, dropout=0.1),
        loss=LossOptions(penalty=9.0),
        training=TrainingOptions(epochs=99),
    )
    started = TrainOptions(start="x", decoder=DecoderOptions(hidden=9, dropout=0.2))
    started = started.from_start(trained)
    assert (started.data, started.decoder) == (trained.data, DecoderOptions(hidden=7, dropout=0.2))
    assert started.encoder == EncoderOptions(image_size=64)  # and frozen again
    assert (started.loss, started.training) == (LossOptions(), TrainingOptions())
    moved = TrainOptions(data=DataOptions(root="new"), encoder=EncoderOptions(fine_tune_from=0))
    moved = moved.from_start(trained)
    assert (moved.data.root, moved.data.images, moved.data.kind) == ("new", "images", "coco")
    assert moved.encoder == EncoderOptions(image_size=64, fine_tune_from=0)


@pytest.mark.parametrize(
    ("name", "before", "anew"), [("views", 4, 1), ("cache", "a", "b"), ("workers", 2, 0)]
)
def test_a_run_that_starts_from_another_loads_as_it_did_or_as_is_said(name, before, anew):
    trained = TrainOptions(data=DataOptions("flickr8k", "root", **{name: before}))
    for given, expected in ((None, before), (anew, anew)):
        run = TrainOptions(start="x", data=DataOptions(**{name: given}))
        assert run.from_start(trained).data == DataOptions("flickr8k", "root", **{name: expected})
