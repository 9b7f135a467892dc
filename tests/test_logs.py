"""A run's log tells each update once, whatever interrupted it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from captioner.logs import RunLog, drop_lines_after


def train(folder: Path, start: int, end: int) -> None:
    """Updates `start + 1` to `end`, with a validation behind each second one."""
    log = RunLog(folder, start)
    for step in range(start + 1, end + 1):
        log.update({"step": step, "loss": 1 / step})
        if step % 2 == 0:
            log.validation({"step": step, "bleu-4": float(step), "note": "text"})
    log.close()


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_each_update_and_validation_is_a_line(tmp_path: Path):
    train(tmp_path / "run", 0, 4)
    assert steps(tmp_path / "run" / "steps.jsonl") == [1, 2, 3, 4]
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[1]) == {"step": 4, "bleu-4": 4.0, "note": "text"}


def test_a_resumed_run_tells_no_update_twice(tmp_path: Path):
    train(tmp_path, 0, 5)
    train(tmp_path, 3, 6)  # it stopped behind update 5, and was last saved behind update 3
    assert steps(tmp_path / "steps.jsonl") == [1, 2, 3, 4, 5, 6]
    assert steps(tmp_path / "log.jsonl") == [2, 4, 6]


def test_tensorboard_shows_the_same_numbers(tmp_path: Path):
    train(tmp_path, 0, 4)
    train(tmp_path, 2, 4)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("validation/bleu-4")] == [(2, 2), (4, 4)]
    losses = {event.step: event.value for event in events.Scalars("update/loss")}
    assert losses == pytest.approx({1: 1, 2: 1 / 2, 3: 1 / 3, 4: 1 / 4})
    assert not [tag for tag in events.Tags()["scalars"] if tag.endswith(("/step", "/note"))]


@pytest.mark.parametrize("torn", ['{"step": 3, "lo', "\0\0\0", '{"loss": 2}', "{"])
def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path, torn: str):
    path = tmp_path / "steps.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n' + torn)
    drop_lines_after(path, 5)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_lines_are_on_the_disk_while_the_run_goes_on(tmp_path: Path):
    log = RunLog(tmp_path)
    log.update({"step": 1, "loss": 2.0})
    assert steps(tmp_path / "steps.jsonl") == [1]
    log.close()


def test_other_processes_write_nothing(tmp_path: Path):
    log = RunLog(tmp_path / "run", active=False)
    log.update({"step": 1})
    log.validation({"step": 1})
    log.close()
    assert not (tmp_path / "run").exists()
