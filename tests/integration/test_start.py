"""A run that starts from another's checkpoint: what it takes over, and that it can be resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from resuming import assert_equal, log_of
from running import TINY, Ran, Trained
from safetensors.torch import load_file
from test_resume import KilledError, nth

from captioner.checkpoint import load_options, open_checkpoint
from captioner.training import Trainer

Run = Callable[..., Ran]
RECIPE = (
    "experiment=scst",
    *(each for each in TINY if each.split(".")[0] in ("training", "search")),
    "training.save_every=2",
    "device=cpu",
)


def start(run: Run, trained: Trained, *arguments: str) -> Ran:
    return run("train", *RECIPE, f"start={trained.checkpoint}", *arguments)


def test_it_takes_over_data_and_model_and_goes_on_from_the_weights(
    trained: Trained, run: Run, tmp_path: Path
):
    done = start(run, trained, "name=scst", "training.learning_rate=1e-12")
    assert done.status == 0, done.err
    assert "random weights" not in done.err
    folder = tmp_path / "runs" / "scst"
    before, after = (
        load_options(trained.folder / "config.yaml"),
        load_options(folder / "config.yaml"),
    )
    assert (after.data, after.decoder) == (before.data, replace(before.decoder, dropout=0.5))
    assert after.encoder == replace(before.encoder, fine_tune_from=None, learning_rate=2e-5)
    assert after.loss.objective == "self_critical" and after.start == str(trained.checkpoint)
    one, other = (
        load_file(each / "model.safetensors")
        for each in (trained.checkpoint, folder / "checkpoints" / "best")
    )
    for name, weights in one.items():
        torch.testing.assert_close(weights, other[name], rtol=0, atol=1e-6)
    lines = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    assert all({"reward", "baseline"} <= line.keys() for line in [*lines, *log_of(folder)])


@pytest.mark.parametrize("tuned", [False, True])
def test_it_is_resumed_exactly_without_the_checkpoint_that_it_started_from(
    trained: Trained, run: Run, tmp_path: Path, monkeypatch, tuned: bool
):
    """Also where the encoder is kept: its features are those of the weights that were found."""
    arguments = ["encoder.fine_tune_from=0"] if tuned else []
    origin = Trained(Path(shutil.copytree(trained.folder, tmp_path / "origin")), "", "")
    assert start(run, origin, "name=whole", *arguments).status == 0
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Trainer, "_update", nth(4, Trainer._update))
        start(run, origin, "name=run", *arguments)
    shutil.rmtree(origin.folder)
    if not tuned:
        assert len(list((tmp_path / "cache").iterdir())) == 2  # training and validation images
    done = run("train", "resume=runs/run")
    assert done.status == 0, done.err
    assert_equal(tmp_path / "runs" / "run", tmp_path / "runs" / "whole")
    if not tuned:
        assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_checkpoint_of_other_captions_is_refused(trained: Trained, run: Run, tmp_path: Path):
    other = Path(shutil.copytree(trained.checkpoint, tmp_path / "other"))
    config = other / "config.yaml"
    config.write_text(config.read_text().replace("train: 24", "train: 3"))
    done = run("train", *RECIPE, f"start={other}", "name=run")
    assert done.mistake.startswith(f"error: the training captions have changed since {other}")
    assert open_checkpoint(other).vocabulary.hash in done.err
    assert not (tmp_path / "runs").exists()
