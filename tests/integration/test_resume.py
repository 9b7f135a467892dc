"""A run that was killed, wherever that was, goes on; not a bit differs from one that was not."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from forking import CAN_FORK, run_forked
from resuming import RECIPE, assert_equal
from running import TINY, Ran
from safetensors.torch import load_file

from captioner import run as run_module
from captioner.training import Trainer
from captioner.validation import Validation

Run = Callable[..., Ran]


def kill_in_update() -> None:
    update = Trainer._update

    def killed(self: Trainer, pieces: list) -> object:
        if self.position.updates == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return update(self, pieces)

    Trainer._update = killed


class KilledError(BaseException):
    """Not an Exception, so that nothing in between can take it for a mistake."""


def test_the_run_has_what_makes_resuming_hard(whole: Path):
    state = load_file(whole / "checkpoints" / "last" / "training.safetensors")
    assert any(key.startswith("live.") for key in state) and "random" in state
    assert len((whole / "steps.jsonl").read_text().splitlines()) == 12


@pytest.mark.skipif(not CAN_FORK, reason="forks, which this system can't")
def test_a_killed_process_goes_on_exactly(whole: Path, tmp_path: Path, run: Run):
    given = (*RECIPE, "name=run")
    (done,) = run_forked("train", *given, folder=tmp_path, first=kill_in_update)
    assert done.status == -signal.SIGKILL
    folder = tmp_path / "runs" / "run"
    saved = json.loads((folder / "checkpoints" / "last" / "training.json").read_text())
    assert (saved["updates"], saved["epoch"], saved["update"]) == (8, 1, 2)
    assert len((folder / "steps.jsonl").read_text().splitlines()) == 9
    done = run("train", "resume=runs/run")
    assert done.status == 0, done.err
    assert_equal(folder, whole)


def nth(number: int, real: Callable) -> Callable:
    """The function, until the call of that number (from 1), where the process dies."""
    calls = 0

    def killed(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == number:
            raise KilledError
        return real(*arguments, **named)

    return killed


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (Trainer, "_update", 1),  # before the first
        (Trainer, "_update", 7),  # the second epoch's first
        (Validation, "__call__", 1),
        (run_module, "save_checkpoint", 4),  # best, behind its line in the log
        (run_module, "save_checkpoint", 5),  # last, behind best
        (run_module, "write_evaluation", 1),  # when all is trained
    ],
)
def test_a_run_goes_on_exactly_wherever_it_died(
    whole: Path, tmp_path: Path, run: Run, monkeypatch, owner, name: str, call: int
):
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(owner, name, nth(call, getattr(owner, name)))
        run("train", *RECIPE, "name=run")
    done = run("train", "resume=runs/run")
    assert done.status == 0, done.err
    assert_equal(tmp_path / "runs" / "run", whole)


def test_a_run_may_die_more_than_once(whole: Path, tmp_path: Path, run: Run, monkeypatch):
    arguments = [*RECIPE, "name=run"]
    for call in (4, 2, 5):
        with monkeypatch.context() as patch, pytest.raises(KilledError):
            patch.setattr(Trainer, "_update", nth(call, Trainer._update))
            run("train", *arguments)
        arguments = ["resume=runs/run"]
    assert run("train", *arguments).status == 0
    assert_equal(tmp_path / "runs" / "run", whole)


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path, run: Run):
    run("train", *TINY, "name=run", "training.epochs=1")
    files = [path for path in (tmp_path / "runs").rglob("*.*") if "tensorboard" not in str(path)]
    before = {path: path.read_bytes() for path in files}
    done = run("train", "resume=runs/run")
    assert done.status == 0, done.err
    assert {path: path.read_bytes() for path in files} == before


def test_a_resumed_run_keeps_its_precision(tmp_path: Path, run: Run, monkeypatch):
    """The command line says nothing of it, and `auto` might mean another one."""
    monkeypatch.setattr("captioner.build.has_fast_bf16", lambda device: True)
    used = []
    real = run_module.build_accelerator

    def watch(options: object) -> object:
        accelerator = real(options)
        used.append(accelerator.mixed_precision)
        return accelerator

    monkeypatch.setattr(run_module, "build_accelerator", watch)
    run("train", *TINY, "name=run", "training.epochs=1")
    assert run("train", "resume=runs/run").status == 0
    assert used == ["no", "no"]


def test_other_data_or_processes_are_refused(tmp_path: Path, run: Run):
    run("train", *TINY, "name=run", "training.epochs=1")
    config = tmp_path / "runs" / "run" / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("train: 24", "train: 23"))
    done = run("train", "resume=runs/run")
    assert done.status == 2 and "error: the training captions have changed" in done.err
    config.write_text(text)
    state = tmp_path / "runs" / "run" / "checkpoints" / "last" / "training.json"
    state.write_text(state.read_text().replace('"processes": 1', '"processes": 4'))
    done = run("train", "resume=runs/run")
    assert done.status == 2 and "torchrun --nproc-per-node 4" in done.err
