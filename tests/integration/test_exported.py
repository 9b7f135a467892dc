"""Exported models write what the models they came from write, with the same numbers, sans torch."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import KINDS, needs
from running import ROOT, Ran, run_script
from tiny import SIDE, Tiny, build_tiny, write_picture

from captioner.caption import Caption
from captioner.captioner import Captioner
from captioner.config import SearchOptions
from captioner.data.images import Transform
from captioner.data.shapes import read_shapes
from captioner.export import export
from captioner.exported import ExportedCaptioner

pytestmark = [needs("onnxruntime"), needs("onnxscript")]
logging.getLogger("torch.__trace").propagate = False  # pytest would keep megabytes of it

BEAM = SearchOptions(
    width=5, max_length=12, min_length=3, length_penalty=0.7, block_ngrams=2
)  # so that every rule of the search shows


ARGUMENTS = [f"search.{name}={value}" for name, value in vars(BEAM).items() if value is not None]


def talkative(**decoder: int | float | str) -> Tiny:
    """A random model with weights so large that each picture has a caption of its own."""
    tiny = build_tiny(**decoder)
    with torch.no_grad():
        for parameter in tiny.model.decoder.parameters():
            parameter.normal_(std=0.8)
    return tiny


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talkative().save(tmp_path_factory.mktemp("exported") / "best")


@pytest.fixture(scope="module")
def folder(checkpoint: Path) -> Path:
    """Written by the command."""
    folder = checkpoint.parent / "onnx"
    done = run_script("export", f"checkpoint={checkpoint}", f"out={folder}", *ARGUMENTS)
    assert done.status == 0, done.err
    assert "onnx/step.onnx" in done.out
    return folder


@pytest.fixture
def captioner(checkpoint: Path) -> Captioner:
    return Captioner.load(checkpoint, "cpu", BEAM)


@pytest.fixture(scope="module")
def pictures() -> list:
    scenes = read_shapes(train=1, val=200, test=1, novel=1).split("val")
    return [scene.image.draw(SIDE) for scene in scenes]


def assert_same(ours: Caption, theirs: Caption) -> None:
    assert ours.words == theirs.words and ours.image == theirs.image
    assert ours.log_prob == pytest.approx(theirs.log_prob, rel=1e-4)
    for name in ("word_log_probs", "alpha", "beta"):
        one, other = getattr(ours, name), getattr(theirs, name)
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
    for gate, values in ours.gates.items():
        np.testing.assert_allclose(values, theirs.gates[gate], rtol=1e-3, atol=1e-3)
    assert len(ours.alternatives) == len(theirs.alternatives)
    for one, other in zip(ours.alternatives, theirs.alternatives, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize(("width", "consensus"), [(1, 0.0), (5, 0.0), (5, 2.0)])
def test_200_pictures_have_the_same_captions_traces_and_alternatives(
    width: int, consensus: float, captioner: Captioner, folder: Path, pictures: list
):
    captioner.options = SearchOptions(**{**vars(BEAM), "width": width, "consensus": consensus})
    exported = ExportedCaptioner.load(folder, options=captioner.options)
    ours, theirs = captioner.caption(pictures), exported.caption(pictures)
    assert len({caption.text for caption in ours}) > 50  # or the same caption would prove nothing
    for one, other in zip(ours, theirs, strict=True):
        assert_same(one, other)


def test_a_width_of_one_is_greedy(captioner: Captioner, folder: Path, pictures: list):
    captioner.options = SearchOptions(**{**vars(BEAM), "strategy": "greedy"})
    exported = ExportedCaptioner.load(folder, options=SearchOptions(**{**vars(BEAM), "width": 1}))
    for one, other in zip(
        captioner.caption(pictures[:20]), exported.caption(pictures[:20]), strict=True
    ):
        assert_same(one, other)


@pytest.mark.parametrize("kind", ["hard", "adaptive-gru"])
def test_every_kind_of_memory_and_state_goes_through(kind: str, tmp_path: Path, pictures: list):
    tiny, options = talkative(**KINDS[kind]), SearchOptions(width=2, max_length=6)
    transform = Transform(SIDE, "squash")
    captioner = Captioner(tiny.model, tiny.vocabulary, transform, options, gated=True)
    exported = ExportedCaptioner.load(export(captioner, tmp_path / "onnx"))
    for one, other in zip(
        captioner.caption(pictures[:9]), exported.caption(pictures[:9]), strict=True
    ):
        assert_same(one, other)


def test_any_number_of_pictures_goes_in_one_batch(folder: Path, pictures: list):
    exported = ExportedCaptioner.load(folder)
    assert exported.caption([]) == []
    together = exported.caption(pictures[:7])
    for one, other in zip(together, map(exported, pictures[:7]), strict=True):
        assert_same(one, other)


def test_no_torch_is_needed(captioner: Captioner, folder: Path, tmp_path: Path):
    paths = [write_picture(tmp_path / f"{i}.png", i) for i in range(3)]
    program = (
        "import sys; sys.modules.update(torch=None, torchvision=None, accelerate=None)\n"
        "from captioner.exported import ExportedCaptioner\n"
        f"stream = ExportedCaptioner.load({str(folder)!r}).stream(sys.argv[1:])\n"
        "print(*(caption.text for caption in stream), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.splitlines() == [caption.text for caption in captioner.caption(paths)]


def test_the_command_needs_no_torch_either(folder: Path, tmp_path: Path):
    write_picture(tmp_path / "photos" / "0.png", 0)
    program = (
        "import runpy, sys; sys.modules.update(torch=None, torchvision=None, accelerate=None)\n"
        "runpy.run_path('scripts/caption.py', run_name='__main__')"
    )
    options = [f"checkpoint={folder}", f"images={tmp_path / 'photos'}"]
    done = subprocess.run(
        [sys.executable, "-c", program, *options, *ARGUMENTS],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert "1 captioned" in done.stderr and json.loads(done.stdout)["caption"]


def test_the_command_captions_with_it_as_with_the_checkpoint(
    checkpoint: Path, folder: Path, run: Callable[..., Ran], tmp_path: Path
):
    for seed in range(3):
        write_picture(tmp_path / "photos" / f"{seed}.png", seed)

    def rows(which: Path) -> list[dict]:
        done = run("caption", f"checkpoint={which}", "images=photos", *ARGUMENTS)
        return [json.loads(line) for line in done.out.splitlines()]

    ours, theirs = rows(checkpoint), rows(folder)
    assert len(ours) == 3
    for one, other in zip(ours, theirs, strict=True):
        assert one.pop("log_prob") == pytest.approx(other.pop("log_prob"), abs=1e-4)
        assert one == other
    assert "exists already" in run("export", f"checkpoint={checkpoint}", f"out={folder}").mistake
    given = (f"checkpoint={folder}", "images=photos", "device=x")
    assert "run on the cpu" in run("caption", *given).mistake


def test_a_folder_holds_all_there_is_and_is_not_overwritten(captioner: Captioner, folder: Path):
    names = {"captioner.json", "encoder.onnx", "step.onnx", "vocabulary.json"}
    assert {path.name for path in folder.iterdir()} == names
    content = json.loads((folder / "captioner.json").read_text())
    assert content["transform"] == {"size": SIDE, "fit": "squash"}
    assert content["search"] == vars(BEAM)
    with pytest.raises(ValueError, match="exists already"):
        export(captioner, folder)


def test_exporting_without_its_packages_names_them(captioner, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r"pip install 'captioner\[export\]'"):
        export(captioner, tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_mistakes_are_named(captioner: Captioner, folder: Path, tmp_path: Path):
    captioner.options = SearchOptions(strategy="sample")
    with pytest.raises(ValueError, match="only greedy and beam can be exported"):
        export(captioner, tmp_path / "new")
    with pytest.raises(ValueError, match="holds no exported captioner"):
        ExportedCaptioner.load(tmp_path)
    with pytest.raises(
        ValueError, match=r"min_length is 1, but the graph has 3; say search.min_length=3"
    ):
        ExportedCaptioner.load(folder, options=SearchOptions())
    with pytest.raises(ValueError, match="device is cuda"):
        ExportedCaptioner.load(folder, "cuda")
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "step.onnx").write_bytes(b"no graph")
    with pytest.raises(ValueError, match=r"step\.onnx is damaged"):
        ExportedCaptioner.load(tmp_path / "copy")
    (tmp_path / "copy" / "step.onnx").unlink()
    with pytest.raises(ValueError, match=r"it has no step\.onnx"):
        ExportedCaptioner.load(tmp_path / "copy")
