"""What train.py dry_run=true foretells is what the run then takes; and it leaves nothing behind."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from running import TINY, Ran

from captioner import rehearsal
from captioner import run as running
from captioner.rehearsal import Part
from captioner.training import Trainer

FROZEN = ("encoder.fine_tune_from=null", "data.views=2")


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def foretold(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Part]]:
    """The parts of a recipe, as a dry run has them, before they are printed."""

    def parts(*options: str) -> list[Part]:
        found: list[Part] = []
        monkeypatch.setattr(running, "print_parts", found.extend)
        done = run("train", *TINY, *options, "dry_run=true")
        assert (done.status, done.out) == (0, ""), done.err
        return found

    return parts


def test_the_disk_takes_what_was_foretold(foretold, run: Callable[..., Ran], tmp_path: Path):
    features, training, validation, checkpoints = foretold(*FROZEN)
    assert list(tmp_path.iterdir()) == []
    assert min(part.seconds for part in (features, training, validation)) > 0
    assert run("train", *TINY, *FROZEN).status == 0
    written = sum(file.stat().st_size for file in tmp_path.glob("cache/*/features.npy"))
    assert features.bytes == pytest.approx(written, abs=2 * 256)  # the two files' headers
    folder = tmp_path / "runs" / "shapes" / "checkpoints"
    assert checkpoints.bytes == pytest.approx(size(folder), rel=0.1)
    again = foretold(*FROZEN)[0]
    assert (again.bytes, again.seconds, again.note) == (0, 0, "all there")


def test_time_is_counted_up_from_few_images_to_all(foretold, monkeypatch: pytest.MonkeyPatch):
    """By a clock to which everything takes a second."""

    def tick(run: Callable[[], object]) -> float:
        run()
        return 1.0

    monkeypatch.setattr(rehearsal, "_seconds", tick)
    sizes = "data.sizes={train:64,val:150,test:1,novel:1}"
    several = (sizes, "training.validate_every=2", "training.epochs=3")
    features, training, validation, _ = foretold(*FROZEN, *several)
    assert features.seconds == pytest.approx((2 * 64 + 150) / 50)
    assert training.seconds == pytest.approx(3 * 64 / 16)  # two updates of 8 images are tried
    assert validation.seconds == pytest.approx(2 * 150 / 50)


def test_the_encoder_s_epochs_are_tried_apart(foretold, monkeypatch: pytest.MonkeyPatch):
    tried, whole = [], Trainer.train_epoch

    def watched(self: Trainer, log: object) -> None:
        whole(self, log)
        tried.append(self.model.tuned)

    monkeypatch.setattr(Trainer, "train_epoch", watched)
    assert foretold("encoder.fine_tune_from=1")[0].bytes == 0
    assert tried == [False, False, True, True]


def test_it_is_told_in_a_table_and_nothing_is_written(run: Callable[..., Ran], tmp_path: Path):
    done = run("train", *TINY, "dry_run=true", "name=x")
    assert done.status == 0, done.err
    assert list(tmp_path.iterdir()) == []
    for part in ("training", "validation", "checkpoints", "in all"):
        assert re.search(rf"{part}.* (s|min|MB)\b", done.out), done.out
    assert "resume= goes on" in run("train", "resume=runs/x", "dry_run=true").mistake
