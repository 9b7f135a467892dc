"""Averages of checkpoints: the mean of their weights, as a checkpoint like any other."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from running import Ran, Trained
from safetensors.torch import load_file, save_file

from captioner.captioner import Captioner
from captioner.checkpoint import load_options, open_checkpoint, save_options
from captioner.data.shapes import sample_scene
from captioner.vocabulary import Vocabulary

Run = Callable[..., Ran]


@pytest.fixture
def other(trained: Trained, tmp_path: Path) -> Path:
    """A checkpoint of the same model, with other weights."""
    folder = Path(shutil.copytree(trained.checkpoint, tmp_path / "other"))
    weights = load_file(folder / "model.safetensors")
    changed = {n: w + 0.1 if w.is_floating_point() else w for n, w in weights.items()}
    vocabulary = {"vocabulary": open_checkpoint(folder).vocabulary.hash}
    save_file(changed, folder / "model.safetensors", metadata=vocabulary)
    return folder


@pytest.mark.parametrize(("shares", "expected"), [((), 0.05), (("shares=[3,1]",), 0.025)])
def test_it_is_the_mean_of_the_weights_and_captions(
    trained: Trained, other: Path, run: Run, tmp_path: Path, shares: tuple[str, ...], expected
):
    out = tmp_path / "soup"
    done = run("average", f"checkpoints=[{trained.checkpoint},{other}]", f"out={out}", *shares)
    assert (done.status, done.out) == (0, f"written: {out}\n"), done.err
    before = load_file(trained.checkpoint / "model.safetensors")
    for name, weight in load_file(out / "model.safetensors").items():
        more = expected if weight.is_floating_point() else 0
        torch.testing.assert_close(weight, before[name] + more)
    parts = open_checkpoint(out).metrics["average of"]
    assert list(parts) == [str(trained.checkpoint), str(other)]
    assert sum(parts.values()) == 1
    assert isinstance(Captioner.load(out, "cpu")(sample_scene(0).draw(64)).text, str)


def test_what_can_not_be_averaged_is_named_and_nothing_is_written(
    trained: Trained, other: Path, run: Run, tmp_path: Path
):
    one, out = trained.checkpoint, tmp_path / "soup"

    def mistake(*arguments: str) -> str:
        said = run("average", f"out={out}", *arguments).mistake
        assert not out.exists()
        return said

    assert "give it a list" in mistake()
    assert "two checkpoints or more" in mistake(f"checkpoints=[{one}]")
    assert "is no checkpoint" in mistake(f"checkpoints=[{one},{tmp_path}]")
    for shares in ("[1]", "[1,-1]", "[0,0]", "[nan,1]", "[inf,1]"):
        assert "shares is" in mistake(f"checkpoints=[{one},{other}]", f"shares={shares}")
    options = load_options(other / "config.yaml")
    decoder = replace(options.decoder, cell="gru")
    save_options(other / "config.yaml", replace(options, decoder=decoder))
    assert f"decoder.cell is lstm in {one} and gru in" in mistake(f"checkpoints=[{one},{other}]")
    Vocabulary(["rot", "grün"]).save(other / "vocabulary.json")
    assert "have different vocabularies" in mistake(f"checkpoints=[{one},{other}]")
    out.mkdir()
    said = run("average", f"out={out}", f"checkpoints=[{one},{one}]").mistake
    assert f"{out} exists already" in said and not list(out.iterdir())
