"""What train.py dry_run=true foretells is what the run then takes; and it leaves nothing behind."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from running import TINY, Ran

from captioner.cli import CONF
from captioner.config import TrainOptions
from captioner.rehearsal import rehearse
from captioner.run import prepare, train

FROZEN = ("encoder.fine_tune_from=null", "data.views=2")


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrainOptions]:
    """Options as the command line gives them, in an empty folder."""
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    monkeypatch.chdir(tmp_path)

    def composed(*overrides: str) -> TrainOptions:
        ConfigStore.instance().store(name="options", node=TrainOptions)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("train", [*TINY, *overrides])
        return OmegaConf.to_object(OmegaConf.merge(TrainOptions, OmegaConf.to_container(config)))

    return composed


def test_the_disk_takes_what_was_foretold(options, tmp_path: Path):
    given = options(*FROZEN)
    features, training, validation, checkpoints = rehearse(prepare(given))
    assert list(tmp_path.iterdir()) == []
    assert min(part.seconds for part in (features, training, validation)) > 0
    train(given)
    (cached,) = {each.parents[1] for each in tmp_path.glob("cache/*/features.npy")}
    written = sum(file.stat().st_size for file in cached.rglob("features.npy"))
    assert features.bytes == pytest.approx(written, abs=2 * 256)  # the two files' headers
    folder = tmp_path / "runs" / "shapes" / "checkpoints"
    assert checkpoints.bytes == pytest.approx(size(folder), rel=0.1)
    again = rehearse(prepare(given))[0]
    assert (again.bytes, again.seconds, again.note) == (0, 0, "all there")


def test_time_is_counted_up_from_few_images_to_all(options, monkeypatch: pytest.MonkeyPatch):
    """By a clock that ticks once for each time it is read."""
    from captioner import rehearsal

    def tick(run: Callable[[], object]) -> float:
        run()
        return 1.0

    monkeypatch.setattr(rehearsal, "_seconds", tick)
    sizes = "data.sizes={train:64,val:150,test:1,novel:1}"
    given = options(*FROZEN, sizes, "training.validate_every=2", "training.epochs=3")
    features, training, validation, _ = rehearse(prepare(given))
    assert features.seconds == pytest.approx((2 * 64 + 150) / 50)
    assert training.seconds == pytest.approx(3 * 64 / 16)  # two updates of 8 images are tried
    assert validation.seconds == pytest.approx(2 * 150 / 50)


def test_the_encoder_s_epochs_are_tried_apart(options, monkeypatch: pytest.MonkeyPatch):
    from captioner.training import Trainer

    tried, whole = [], Trainer.train_epoch
    monkeypatch.setattr(
        Trainer,
        "train_epoch",
        lambda self, log: (whole(self, log), tried.append(self.model.tuned)),
    )
    parts = rehearse(prepare(options("encoder.fine_tune_from=1")))
    assert tried == [False, False, True, True] and parts[0].bytes == 0


def test_it_is_told_in_a_table_and_nothing_is_written(run: Callable[..., Ran], tmp_path: Path):
    done = run("train", *TINY, "dry_run=true", "name=x")
    assert done.status == 0, done.err
    assert list(tmp_path.iterdir()) == []
    for part in ("training", "validation", "checkpoints", "in all"):
        assert re.search(rf"{part}.* (s|min|MB)\b", done.out), done.out
    assert "resume= goes on" in run("train", "resume=runs/x", "dry_run=true").mistake
