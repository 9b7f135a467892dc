"""What ends a run from outside loses nothing: signals, a full disk, a second run in its folder."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from forking import CAN_FORK, run_forked
from resuming import RECIPE, assert_equal
from running import TINY, Ran
from safetensors.torch import load_file
from tiny import write_picture

from captioner import validation
from captioner.files import locked
from captioner.training import Trainer

Run = Callable[..., Ran]
needs_fork = pytest.mark.skipif(not CAN_FORK, reason="forks, which this system can't")


def signalling(number: int, nth: int, real: Callable) -> Callable:
    """The function, which sends this process a signal when it is called for the nth time."""
    calls = 0

    def call(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), number)
        return real(*arguments, **named)

    return call


@pytest.mark.parametrize(
    ("number", "status", "owner", "name", "nth", "position"),
    [
        (signal.SIGTERM, 143, Trainer, "_update", 3, (0, 3)),  # within an epoch
        (signal.SIGINT, 130, Trainer, "_update", 6, (0, 6)),  # an epoch's last
        (signal.SIGTERM, 143, validation, "decode", 2, (1, 6)),  # in the last validation
    ],
)
def test_a_signal_saves_where_it_came_and_says_how_to_go_on(
    whole: Path, tmp_path: Path, run: Run, monkeypatch, number, status, owner, name, nth, position
):
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, signalling(number, nth, getattr(owner, name)))
        done = run("train", *RECIPE, "name=run")
    assert done.status == status
    assert done.err.endswith("\nstopped; resume=runs/run goes on exactly here\n")
    assert signal.getsignal(number) is before
    saved = json.loads((tmp_path / "runs/run/checkpoints/last/training.json").read_text())
    assert (saved["epoch"], saved["update"]) == position
    assert run("train", "resume=runs/run").status == 0
    assert_equal(tmp_path / "runs" / "run", whole)


def end_group_in_update() -> None:
    """As a scheduler does: loader workers get the signal, too."""
    os.setpgrp()
    update = Trainer._update

    def stopped(self: Trainer, pieces: list) -> object:
        if self.position.updates == 2:
            os.killpg(0, signal.SIGTERM)
        return update(self, pieces)

    Trainer._update = stopped


@needs_fork
def test_a_scheduler_that_stops_loader_workers_too_loses_nothing(
    whole: Path, tmp_path: Path, run: Run
):
    given = (*RECIPE, "data.workers=1", "name=run")
    (done,) = run_forked("train", *given, folder=tmp_path, first=end_group_in_update)
    assert done.status == 143, done.err
    assert "resume=runs/run" in done.err and "Traceback" not in done.err
    assert run("train", "resume=runs/run").status == 0  # with its worker
    assert_equal(tmp_path / "runs" / "run", whole)


def test_a_signal_before_training_ends_at_once(tmp_path: Path, run: Run, monkeypatch):
    from captioner import run as module

    patched = signalling(signal.SIGTERM, 1, module.build_collection)
    monkeypatch.setattr(module, "build_collection", patched)
    done = run("train", *TINY, "name=run")
    assert (done.status, done.err) == (143, "interrupted\n")


# A second one in the same folder.


@pytest.fixture
def begun(tmp_path: Path, run: Run) -> Path:
    assert run("train", *TINY, "name=run", "training.epochs=1").status == 0
    return tmp_path / "runs" / "run"


def test_a_folder_that_another_process_works_in_is_refused_until_it_is_killed(
    begun: Path, run: Run, holder: Callable[[Path], None]
):
    other = holder(begun)
    done = run("train", "resume=runs/run")
    assert "runs/run is in use by another process" in done.mistake
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    assert run("train", "resume=runs/run").status == 0


@pytest.fixture
def holder():
    """Forks processes that hold a folder's lock; returns their ids."""
    children = []

    def hold(folder: Path) -> int:
        ready, told = os.pipe()
        child = os.fork()
        if not child:
            with locked(folder):
                os.write(told, b"!")
                signal.pause()
        os.read(ready, 1)
        children.append(child)
        return child

    yield hold
    for child in children:
        try:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def test_a_run_that_died_before_anything_was_saved_can_be_begun_or_resumed(
    begun: Path, tmp_path: Path, run: Run
):
    dead = tmp_path / "runs" / "dead"
    dead.mkdir()
    (dead / ".lock").touch()
    (dead / ".config.partial.yaml").write_text("half of")
    assert run("train", *TINY, "name=dead", "training.epochs=1").status == 0
    early = tmp_path / "runs" / "early"
    early.mkdir()
    (early / "config.yaml").write_bytes((begun / "config.yaml").read_bytes())
    assert run("train", "resume=runs/early").status == 0
    for other in (dead, early):
        one, two = (load_file(f / "checkpoints/last/model.safetensors") for f in (begun, other))
        assert all((one[name] == two[name]).all() for name in one)


# No room, no permission.


def fill_disk_in_last_epoch() -> None:
    """A limit on the size of files is what a program can have instead of a full disk."""
    end_epoch = Trainer._end_epoch

    def full(self: Trainer, log: object) -> None:
        if self.position.epoch == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        end_epoch(self, log)

    Trainer._end_epoch = full


@needs_fork
def test_a_disk_that_fills_up_is_one_line_and_checkpoints_stay(
    whole: Path, tmp_path: Path, run: Run
):
    given = (*RECIPE, "name=run")
    (done,) = run_forked("train", *given, folder=tmp_path, first=fill_disk_in_last_epoch)
    assert done.status == 2 and "Traceback" not in done.err, done.err
    last = done.err.splitlines()[-1]
    assert last.startswith("error: runs/run/checkpoints/") and "can't be written: " in last
    assert "File too large" in last
    assert run("train", "resume=runs/run").status == 0
    assert_equal(tmp_path / "runs" / "run", whole)


@pytest.mark.parametrize("script", ["evaluate", "caption"])
def test_a_folder_that_cannot_be_written_to_is_one_line(trained, run: Run, tmp_path, script: str):
    (tmp_path / "file").touch()  # permissions would not stop root
    images = [f"images={write_picture(tmp_path / 'a.png')}"] if script == "caption" else []
    done = run(script, f"checkpoint={trained.checkpoint}", "out=file/x", "device=cpu", *images)
    assert done.status == 2
    assert "file/x" in done.err.splitlines()[-1] and "can't be written: " in done.err
