"""Validation gives the whole split's scores, and the loss of teacher forcing apart from them."""

from __future__ import annotations

import pytest
import torch
from tiny import SIDE, Tiny, build_tiny, scenes

from captioner import validation
from captioner.build import build_accelerator
from captioner.config import SearchOptions, TrainingOptions, TrainOptions
from captioner.data.images import Transform
from captioner.data.loader import CaptionedImages, ImageSource, collate
from captioner.metrics import metric
from captioner.objectives import batch_loss
from captioner.validation import Validation

SOURCE = ImageSource(Transform(SIDE, "squash"))


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    return build_tiny()


def validation_of(tiny: Tiny) -> Validation:
    options = SearchOptions(width=2, max_length=6)
    training = TrainingOptions(precision="fp32")
    accelerator = build_accelerator(TrainOptions(training=training, device="cpu"))
    tiny.model.eval()
    return Validation(tiny.model, scenes(), tiny.vocabulary, SOURCE, options, accelerator)


@pytest.fixture
def scorer(tiny: Tiny) -> Validation:
    return validation_of(tiny)


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


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_validation_leaves_training_as_it_was(kind: str):
    """No gradients are kept, no weight changes, and it repeats."""
    tiny = build_tiny(attention_kind=kind)
    scorer = validation_of(tiny)
    before = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    assert scorer() == scorer()
    assert all(torch.equal(before[name], t) for name, t in tiny.model.state_dict().items())
    assert all(parameter.grad is None for parameter in tiny.model.parameters())
    assert not any(module.training for module in tiny.model.modules())


@pytest.mark.parametrize("estimator", ["reinforce", "gumbel", "straight_through"])
def test_the_variance_of_the_gradient_is_that_of_what_is_drawn(estimator: str):
    tiny = build_tiny(attention_kind="hard", estimator=estimator)
    scorer, attention = validation_of(tiny), tiny.model.decoder.attention
    state = torch.manual_seed(5).get_state()
    assert scorer.gradient_variance() > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert scorer()["attention-gradient-variance"] == scorer.gradient_variance()
    with torch.no_grad():
        attention.score.weight.mul_(1e6)  # one location is certain, so nothing varies
    assert scorer.gradient_variance() < 1e-12


def test_soft_attention_has_no_such_variance(scorer: Validation):
    assert "attention-gradient-variance" not in scorer()
