"""Two processes learn what one does: the same updates, the same scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from running import ROOT, TINY, Ran, run_process, run_script
from safetensors.torch import load_file

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this torch has no gloo, over which processes on CPUs talk",
)

RECIPE = (
    *TINY,
    "data.sizes={train:21,val:5}",  # shares of unequal size
    "training.accumulation=2",
    "decoder.dropout=0",
    "loss.grounding=1",
)


def torchrun(folder: Path, *arguments: str, program: Path = ROOT / "scripts" / "train.py") -> Ran:
    options = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
    return run_process(*options, program, *arguments, folder=folder)


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of the same run by one process and by two."""
    folder = tmp_path_factory.mktemp("processes")
    torch.set_num_threads(1)
    one = run_script("train", *RECIPE, "name=one", f"runs={folder / 'runs'}")
    two = torchrun(folder, *RECIPE, "name=two")
    assert (one.status, two.status) == (0, 0), one.err + two.err
    assert two.out.count("best checkpoint") == 1  # one process speaks for both
    return folder / "runs" / "one", folder / "runs" / "two"


def lines(run: Path, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / f"{name}.jsonl").read_text().splitlines()]


def test_every_update_is_the_same(one_and_two: tuple[Path, Path]):
    """Its loss is over all its words: an image left out or taken twice would change it."""
    one, two = (lines(run, "steps") for run in one_and_two)
    assert len(one) == len(two) == 6
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=1e-4)


def test_weights_and_scores_are_the_same_at_the_end(one_and_two: tuple[Path, Path]):
    one, two = (load_file(run / "checkpoints/best/model.safetensors") for run in one_and_two)
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=1e-4)
    scores = [json.loads((run / "evaluation" / "val.json").read_text()) for run in one_and_two]
    assert scores[0].pop("tokenizer") == scores[1].pop("tokenizer")
    assert scores[0] == pytest.approx(scores[1], rel=1e-6, abs=1e-6)
    captions = [(run / "evaluation" / "val-captions.json").read_text() for run in one_and_two]
    assert captions[0] == captions[1]
    for a, b in zip(*(lines(run, "log") for run in one_and_two), strict=True):
        assert a["val_loss"] == pytest.approx(b["val_loss"], abs=1e-4)
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-4)


def test_both_learn_from_samples_of_their_own(tmp_path: Path):
    """Hard attention too, which has nothing to learn from them that DDP might wait for."""
    hard = (*RECIPE, "decoder.attention_kind=hard", "training.epochs=1")
    assert run_script("train", *hard, "name=hard", f"runs={tmp_path / 'runs'}").status == 0
    training = [option for option in RECIPE if option.startswith("training.")]
    start = ("experiment=scst", "start=runs/hard/checkpoints/best", "device=cpu")
    done = torchrun(tmp_path, *start, *training, "name=scst")
    assert done.status == 0, done.err
    steps = lines(tmp_path / "runs" / "scst", "steps")
    assert len(steps) == 6 and all(line["reward"] > 0 for line in steps)


STOPPED = """
import os, runpy, signal, sys
from captioner.training import Trainer

update = Trainer._update

def stopped(self, pieces):
    if self.position.updates == 3 and self.accelerator.process_index == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    return update(self, pieces)

Trainer._update = stopped
runpy.run_path({script!r}, run_name="__main__")
"""


def test_a_signal_to_one_stops_both_and_they_go_on_exactly(
    one_and_two: tuple[Path, Path], tmp_path: Path
):
    program = tmp_path / "stopped.py"
    program.write_text(STOPPED.format(script=str(ROOT / "scripts" / "train.py")))
    done = torchrun(tmp_path, *RECIPE, "name=run", program=program)
    assert done.status != 0 and "stopped; resume=runs/run" in done.err
    saved = json.loads((tmp_path / "runs/run/checkpoints/last/training.json").read_text())
    assert (saved["updates"], saved["processes"]) == (4, 2)
    done = torchrun(tmp_path, "resume=runs/run")
    assert done.status == 0, done.err
    two, again = one_and_two[1], tmp_path / "runs" / "run"
    assert (again / "steps.jsonl").read_text() == (two / "steps.jsonl").read_text()
    one, other = (load_file(f / "checkpoints/last/model.safetensors") for f in (two, again))
    assert all(torch.equal(one[name], other[name]) for name in one)
