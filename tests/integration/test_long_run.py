"""A run that is long enough has attention's scores compiled; others lose no time by it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from running import TINY, Ran, Trained

from captioner.models import additive

Run = Callable[..., Ran]

NOTE = "torch.compile makes attention's scores faster"


@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_it_learns_the_same(
    trained: Trained, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(additive, "WORTHWHILE", 0)
    done = run("train", *TINY, "name=long", "training.pictures=0")
    assert done.status == 0, done.err
    assert NOTE in done.out + done.err and NOTE not in trained.out + trained.err
    assert additive._fused
    losses = [
        [json.loads(line)["loss"] for line in (folder / "steps.jsonl").read_text().splitlines()]
        for folder in (tmp_path / "runs" / "long", trained.folder)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_captioning_of_many_pictures_gets_ready_for_them(
    trained: Trained, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from tiny import write_picture

    for number in range(3):
        write_picture(tmp_path / "photos" / f"{number}.png", number)
    told = []
    monkeypatch.setattr("captioner.captioner.Captioner.expect", lambda _, count: told.append(count))
    done = run("caption", f"checkpoint={trained.checkpoint}", "images=photos", "out=rows.jsonl")
    assert done.status == 0, done.err
    assert told == [3]
