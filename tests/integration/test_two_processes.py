"""Two processes learn what one does: the same updates, the same scores."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from forking import CAN_FORK, run_forked
from running import ROOT, TINY, run_process, run_script
from safetensors.torch import load_file

from captioner.training import Trainer

GLOO = torch.distributed.is_available() and torch.distributed.is_gloo_available()
pytestmark = pytest.mark.skipif(
    not (GLOO and CAN_FORK), reason="needs gloo, over which processes on CPUs talk, and forks"
)

RECIPE = (
    *TINY,
    "data.sizes={train:21,val:5}",  # shares of unequal size
    "training.accumulation=2",
    "decoder.dropout=0",
    "loss.grounding=1",
)


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of the same run by one process and by two."""
    folder = tmp_path_factory.mktemp("processes")
    torch.set_num_threads(1)
    one = run_script("train", *RECIPE, "name=one", f"runs={folder / 'runs'}")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
    script = ROOT / "scripts" / "train.py"
    two = run_process(*torchrun, script, *RECIPE, "name=two", folder=folder)
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
    one, other = run_forked("train", *start, *training, "name=scst", folder=tmp_path, processes=2)
    assert (one.status, other.status) == (0, 0), one.err + other.err
    steps = lines(tmp_path / "runs" / "scst", "steps")
    assert len(steps) == 6 and all(line["reward"] > 0 for line in steps)


def end_the_second_in_update() -> None:
    update = Trainer._update

    def stopped(self: Trainer, pieces: list) -> object:
        if self.position.updates == 3 and self.accelerator.process_index == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(self, pieces)

    Trainer._update = stopped


def test_a_signal_to_one_stops_both_and_they_go_on_exactly(
    one_and_two: tuple[Path, Path], tmp_path: Path
):
    together = {"folder": tmp_path, "processes": 2}
    given = (*RECIPE, "name=run")
    one, other = run_forked("train", *given, first=end_the_second_in_update, **together)
    assert (one.status, other.status) == (143, 143), one.err + other.err
    assert "stopped; resume=runs/run" in one.err
    saved = json.loads((tmp_path / "runs/run/checkpoints/last/training.json").read_text())
    assert (saved["updates"], saved["processes"]) == (4, 2)
    one, other = run_forked("train", "resume=runs/run", **together)
    assert (one.status, other.status) == (0, 0), one.err + other.err
    two, again = one_and_two[1], tmp_path / "runs" / "run"
    assert (again / "steps.jsonl").read_text() == (two / "steps.jsonl").read_text()
    one, other = (load_file(f / "checkpoints/last/model.safetensors") for f in (two, again))
    assert all(torch.equal(one[name], other[name]) for name in one)
