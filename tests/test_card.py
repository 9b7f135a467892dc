"""A model card says what the checkpoint's own options, scores and vocabulary say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tiny import build_tiny

from captioner.captioner import Captioner
from captioner.card import model_card
from captioner.config import DataOptions, LossOptions

METRICS = {"epoch": 3, "bleu-4": 12.345, "cider": 50.0, "loss": 1.5, "seconds": 9.5}


def test_a_saved_captioner_has_a_card_of_its_own_numbers(tmp_path: Path):
    tiny = build_tiny()
    captioner = Captioner.load(tiny.save(tmp_path / "best", **METRICS), "cpu")
    saved = captioner.save(tmp_path / "saved")
    text = (saved / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["pipeline_tag"] == "image-to-text"
    assert f"It knows {len(tiny.vocabulary)} words" in body
    assert "| bleu-4 | 12.35 |" in body and "after epoch 3" in body
    assert "| loss |" not in body and "| seconds |" not in body
    assert "| cell | lstm, 16 units |" in body and "drawn shapes alone" in body
    again = Captioner.load(saved, "cpu")
    assert again.origin.options == tiny.options and again.origin.metrics == METRICS
    with pytest.raises(ValueError, match="saved exists already"):
        captioner.save(saved)


def test_a_card_knows_no_paths_and_says_where_scores_are_missing():
    tiny = build_tiny(beta="none")
    tiny.options.data = DataOptions(kind="flickr8k", root="/home/me/flickr8k", limit=7)
    tiny.options.encoder.weights = "/home/me/weights.pth"
    text = model_card(tiny.options, {}, tiny.vocabulary)
    assert "/home" not in text and "Flickr8k, the first 7 images of each split" in text
    assert "None are stored" in text and "pretrained weights" in text
    assert "shapes" not in text


def test_a_card_of_self_critical_training_on_shards_has_validation_s_scores_alone():
    tiny = build_tiny()
    tiny.options.data = DataOptions(kind="webdataset", train="train.tar", val="val.tar")
    tiny.options.loss = LossOptions(objective="self_critical")
    tiny.options.training.best, tiny.options.start = "cider", "runs/x/checkpoints/best"
    tiny.options.encoder.fine_tune_above = "features.10"
    text = model_card(tiny.options, {**METRICS, "reward": 60.0, "baseline": 59.0}, tiny.vocabulary)
    assert "Trained on shards of images and captions" in text
    assert "weights of an earlier run" in text and "runs/x" not in text
    assert "| objective | self_critical |" in text and "chose this checkpoint by cider" in text
    assert "| cider | 50.00 |" in text and "| reward |" not in text and "| baseline |" not in text
    assert "trained above features.10 from epoch 0" in text


def test_only_what_was_loaded_can_be_saved(tmp_path: Path):
    tiny = build_tiny()
    captioner = Captioner(tiny.model, tiny.vocabulary, transform=None)
    with pytest.raises(ValueError, match="only a captioner that was loaded"):
        captioner.save(tmp_path / "new")
