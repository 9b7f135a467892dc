"""A pool of captioners on a local Ray cluster: one is killed, and nothing is lost or doubled.

CAPTIONER_PICTURES=2000 tries it with so many pictures.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from running import Ran, Trained
from tiny import write_picture

from captioner import cluster
from captioner.config import CaptionOptions

PICTURES = int(os.environ.get("CAPTIONER_PICTURES", "40"))
Run = Callable[..., Ran]


def options(trained: Trained) -> list[str]:
    return [f"checkpoint={trained.checkpoint}", "images=photos", "device=cpu", "batch=4"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Pictures, every tenth of them damaged."""
    folder = tmp_path / "photos"
    for number in range(PICTURES):
        path = write_picture(folder / f"{number:05}.png", number)
        if number % 10 == 7:
            path.write_bytes(path.read_bytes()[:70])
    return folder


def test_a_captioner_is_killed_midway_and_every_picture_has_its_row_once(
    trained: Trained, run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It dies at the worst moment: with its batch done, and not yet handed over."""
    pytest.importorskip("ray", reason="needs captioner[ray]")
    middle, killed = f"{PICTURES // 2:05}.png", tmp_path / "killed"

    class Mortal(cluster.CaptionBatch):
        def __call__(self, batch: dict) -> list[dict]:
            rows = super().__call__(batch)
            if not killed.exists() and any(middle in row["row"] for row in rows):
                killed.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
            return rows

    alone = run("caption", *options(trained), "out=alone.jsonl")
    assert alone.status == 0, alone.err
    monkeypatch.setattr(cluster, "CaptionBatch", Mortal)
    done = run("caption", *options(trained), "actors=2", "out=pool.jsonl")
    assert done.status == 0, done.err
    assert int(killed.read_text()) != os.getpid()
    assert done.err.splitlines()[-1] == alone.err.splitlines()[-1]  # so many captioned, so many not
    expected, found = (
        [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("alone", "pool")
    )
    assert len({row["image"] for row in found}) == len(found) == PICTURES
    for one, other in zip(expected, found, strict=True):
        assert one.pop("log_prob", 0) == pytest.approx(other.pop("log_prob", 0), abs=1e-4)
        assert one == other


def test_a_mistake_is_one_line_and_comes_before_there_is_a_cluster(
    trained: Trained, run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
):
    wrong = run("caption", "checkpoint=nowhere", "images=photos", "actors=2")
    assert "nowhere is no checkpoint" in wrong.mistake
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    missing = run("caption", *options(trained), "actors=2")
    assert "pip install 'captioner[ray]'" in missing.mistake


def test_a_batch_gives_all_its_rows_or_none(trained: Trained, photos: Path):
    import pickle

    given = CaptionOptions(str(trained.checkpoint), str(photos), device="cpu")
    paths = sorted(photos.iterdir())[5:9]
    rows = cluster.CaptionBatch(given, len(paths))({"sources": pickle.dumps(paths)})
    rows = [json.loads(row["row"]) for row in rows]
    assert [row["image"] for row in rows] == [str(path) for path in paths]
    assert ["error" in row for row in rows] == [False, False, True, False]
