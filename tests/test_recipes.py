"""Every recipe composes, and the paper's are the paper's."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch import nn

from captioner.build import build_optimizer
from captioner.cli import CONF
from captioner.config import TrainingOptions, TrainOptions

RECIPES = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


@pytest.fixture(autouse=True, scope="module")
def hydra() -> Iterator[None]:
    GlobalHydra.instance().clear()
    ConfigStore.instance().store(name="options", node=TrainOptions)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def composed(*overrides: str) -> TrainOptions:
    config = compose("train", ["data.root=DIR", *overrides])
    return OmegaConf.to_object(OmegaConf.merge(TrainOptions, OmegaConf.to_container(config)))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_composes(recipe: str):
    if recipe == "optuna":
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    given = ["start=CHECKPOINT"] if recipe in ("scst", "finetune") else []
    assert isinstance(composed(f"experiment={recipe}", *given), TrainOptions)


@pytest.mark.parametrize("recipe", ["paper_soft", "paper_hard"])
def test_the_paper_s_recipe_has_the_paper_s_numbers(recipe: str):
    options = composed(f"experiment={recipe}")
    encoder, decoder, training = options.encoder, options.decoder, options.training
    # 3.1.1 and 4.3: conv5 of VGG-19 before its pooling, 14 × 14 × 512, never fine-tuned.
    assert (encoder.name, encoder.node, encoder.image_size) == ("vgg19", "features.35", 224)
    assert encoder.weights == "IMAGENET1K_V1" and not encoder.tuned
    # (1)–(7), and the sizes of the authors' code.
    assert (decoder.hidden, decoder.embedding) == (1000, 512)
    assert (decoder.cell, decoder.beta, decoder.deep_output) == ("lstm", "scalar", True)
    assert (decoder.projection, decoder.tied_output, decoder.dropout) == (0, False, 0.5)
    # 4.3: RMSProp on Flickr8k, batches of 64 captions of one length, early stopping on BLEU.
    assert (options.data.kind, options.data.views) == ("flickr8k", 1)
    assert (training.batch_images, training.captions_together) == (64, 1)
    assert training.one_length and training.patience == 10
    assert (training.optimizer, training.learning_rate) == ("rmsprop", 1e-4)
    assert (training.schedule, training.warmup, training.ema) == ("constant", 0, 0)
    assert training.weight_decay == 0 and training.clip == float("inf")
    assert (options.loss.per, options.loss.label_smoothing) == ("caption", 0)
    if recipe == "paper_soft":
        assert (decoder.attention_kind, options.loss.penalty) == ("soft", 1)  # (14)
    else:  # 4.1, with λ_e of the authors' code
        assert (decoder.attention_kind, decoder.estimator) == ("hard", "reinforce")
        assert (decoder.expectation, options.loss.reinforce) == (0.5, 1)
        assert (options.loss.entropy, options.loss.penalty) == (0.002, 0)


def test_rmsprop_is_that_of_the_authors_code():
    model = SimpleNamespace(decoder=nn.Linear(5, 1, bias=False), encoder=nn.Linear(1, 1))
    weight = model.decoder.weight
    options = TrainingOptions(optimizer="rmsprop", learning_rate=1e-4, weight_decay=0.0)
    optimizer = build_optimizer(model, 1e-4, options)
    optimizer.param_groups[0]["lr"] = 1e-4
    expected, mean, square, step = weight.detach().clone(), 0.0, 0.0, 0.0
    for _ in range(20):
        weight.grad = 1000 * torch.randn_like(weight)  # beside which 1e-4 and 1e-2 are little
        optimizer.step()
        mean = 0.95 * mean + 0.05 * weight.grad
        square = 0.95 * square + 0.05 * weight.grad**2
        step = 0.9 * step - 1e-4 * weight.grad / (square - mean**2 + 1e-4).sqrt()
        expected += step
    torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=2e-5)
    assert step.abs().max() > 2e-4


def test_what_is_given_goes_before_the_recipe():
    adam = ("training.optimizer=adam", "training.learning_rate=2e-4", "data.min_count=5")
    options = composed("experiment=paper_hard", "data=karpathy", "data.file=d.json", *adam)
    assert (options.data.kind, options.data.file, options.data.min_count) == (
        "karpathy", "d.json", 5,
    )  # fmt: skip
    assert (options.training.optimizer, options.training.one_length) == ("adam", True)


def test_a_checkpoint_is_fine_tuned_in_more_views_of_its_own_data():
    trained = composed("experiment=flickr8k", "data.min_count=7", "decoder.hidden=99")
    given = ("experiment=finetune", "start=CHECKPOINT", "encoder.fine_tune_above=features.10")
    options = composed(*given).from_start(trained)
    assert (options.data.min_count, options.decoder.hidden, options.data.views) == (7, 99, 6)
    assert trained.data.views == 4 and options.training.epochs < trained.training.epochs
    assert (options.encoder.fine_tune_from, options.encoder.fixed_node) == (0, "features.10")
    assert options.loss == trained.loss and options.training.ema < trained.training.ema
    assert options.encoder.tuned and options.encoder.weights == trained.encoder.weights
