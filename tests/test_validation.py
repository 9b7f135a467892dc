"""Validation gives the whole split's scores, and the loss of teacher forcing apart from them."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from tiny import SIDE, Tiny, build_tiny, scenes

from captioner import validation
from captioner.config import SearchOptions
from captioner.data.images import Transform
from captioner.data.loader import CaptionedImages, ImageSource, collate
from captioner.metrics import metric
from captioner.training import batch_loss
from captioner.validation import Validation

SOURCE = ImageSource(Transform(SIDE, "squash"))


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    tiny = build_tiny()
    tiny.model.eval()
    return tiny


@pytest.fixture
def scorer(tiny: Tiny) -> Validation:
    options = SearchOptions(width=2, max_length=6)
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    return Validation(tiny.model, scenes(), tiny.vocabulary, SOURCE, options, accelerator)


def test_the_loss_is_the_mean_over_all_words_however_they_are_batched(
    tiny: Tiny, scorer: Validation, monkeypatch
):
    images = CaptionedImages(scenes(), tiny.vocabulary, SOURCE)
    whole = collate([images[i] for i in range(len(images))])
    with torch.no_grad():
        expected = float(batch_loss(tiny.model, whole).cross_entropy) / whole.words
    assert scorer.loss() == pytest.approx(expected, rel=1e-5)
    monkeypatch.setattr(validation, "BATCH", 5)
    options, accelerator = scorer.search, scorer.accelerator
    small = Validation(tiny.model, scenes(), tiny.vocabulary, SOURCE, options, accelerator)
    assert small.loss() == pytest.approx(expected, rel=1e-5)


def test_a_line_holds_numbers_without_intervals(scorer: Validation):
    line = scorer()
    full = scorer.evaluation().metrics
    assert {"val_loss", "bleu-1", "bleu-2", "bleu-3", "bleu-4", "true"} <= line.keys()
    assert {"cider", "rouge-l", "unique-captions"} <= line.keys()
    assert not [name for name in line if name.endswith(("-low", "-high", "-no-bp"))]
    assert all(isinstance(value, float) for value in line.values())
    assert all(line[name] == full[name] for name in line if name != "val_loss")
    assert full["images"] == len(scenes())


def test_a_line_costs_no_bootstrap(scorer: Validation, monkeypatch):
    monkeypatch.setattr(metric, "resample", lambda *_: pytest.fail("drew resamples"))
    scorer()
    with pytest.raises(pytest.fail.Exception, match="drew resamples"):
        scorer.evaluation().metrics  # noqa: B018


def test_what_is_novel_is_told_by_the_captions_trained_on(tiny: Tiny, scorer: Validation):
    assert "novel-captions" not in scorer()
    scorer.training = [each["caption"] for each in scorer.evaluation().captions[:3]]
    said = [each["caption"] for each in scorer.evaluation().captions]
    new = sum(caption not in scorer.training for caption in said)
    assert scorer()["novel-captions"] == pytest.approx(100 * new / len(said))


def test_validation_leaves_training_as_it_was(tiny: Tiny, scorer: Validation):
    """No gradients are kept, no weight changes, and it repeats."""
    before = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    assert scorer() == scorer()
    assert all(torch.equal(before[name], t) for name, t in tiny.model.state_dict().items())
    assert all(parameter.grad is None for parameter in tiny.model.parameters())
