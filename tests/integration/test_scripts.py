"""What the commands promise: the files they write, their exit status, and mistakes in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from running import ROOT, TINY, Ran, Trained, run_process
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import write_picture

from captioner.captioner import Captioner

Run = Callable[..., Ran]
SCRIPTS = ("train", "evaluate", "caption", "visualize")


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# train


def test_train_writes_every_file_that_it_promises(trained: Trained):
    written = files(trained.folder)
    checkpoint = {"model.safetensors", "config.yaml", "vocabulary.json", "metrics.json"}
    pictures = {f"shapes-val-0000{i}{end}" for i in (0, 1) for end in (".png", ".html", ".npz")}
    assert written >= {"config.yaml", "log.jsonl", "steps.jsonl", "evaluation/val.json"}
    assert written >= {f"checkpoints/best/{name}" for name in checkpoint}
    assert written >= {f"checkpoints/last/{name}" for name in checkpoint}
    assert {name for name in written if name.startswith("attention/")} == {
        f"attention/{name}" for name in (*pictures, "index.html")
    }
    assert not [name for name in written if "partial" in name or ".old" in name]
    assert not (trained.folder.parents[1] / "outputs").exists()


def test_the_log_has_a_line_per_validation_with_scores_and_speed(trained: Trained):
    log = lines((trained.folder / "log.jsonl").read_text())
    assert [line["epoch"] for line in log] == [1, 2]
    keys = {"step", "loss", "val_loss", "seconds", "captions_per_second"}
    assert all(line.keys() >= keys | {f"bleu-{n}" for n in range(1, 5)} for line in log)
    steps = lines((trained.folder / "steps.jsonl").read_text())
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
    board = EventAccumulator(str(trained.folder / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("validation/bleu-4")] == [3, 6]


def test_train_says_what_it_trains_and_where_everything_is(trained: Trained):
    assert "24 training and 6 validation images" in trained.err
    assert "bleu-4" in trained.out and "runs/tiny/checkpoints/best" in trained.out
    assert "runs/tiny/attention/shapes-val-00000.png" in trained.out
    assert "runs/tiny/attention/index.html" in trained.out  # one page with all pictures


def test_a_taken_name_is_refused_and_nothing_is_changed(trained: Trained, run: Run):
    before = {path: path.stat().st_mtime_ns for path in trained.folder.rglob("*")}
    done = run("train", *TINY, "name=tiny", f"runs={trained.folder.parent}")
    assert f"resume={trained.folder}" in done.mistake and "name=" in done.err
    assert {path: path.stat().st_mtime_ns for path in trained.folder.rglob("*")} == before


def test_runs_without_a_name_get_the_next_free_one(run: Run, tmp_path: Path):
    (tmp_path / "runs" / "shapes").mkdir(parents=True)
    assert run("train", *TINY, "training.epochs=1", "training.threads=2").status == 0
    assert (tmp_path / "runs" / "shapes-2" / "checkpoints" / "best").is_dir()
    assert torch.get_num_threads() == 2


def test_a_sweep_is_a_run_per_job_named_by_what_differs(run: Run, tmp_path: Path):
    recipe = [option for option in TINY if "precision" not in option]
    sweep = ("training.seed=0,1", "training.precision=fp32,bf16", "name=sweep")
    done = run("train", "--multirun", *recipe, "training.epochs=1", *sweep)
    assert done.status == 0, done.err
    paths = set((tmp_path / "runs" / "sweep").iterdir())
    names = {path.name for path in paths if path.is_dir()}
    assert {path.name for path in paths} - names == {
        f"comparison.{e}" for e in ("md", "csv", "png")
    }
    assert names == {
        f"training.seed={seed},training.precision={precision}"
        for seed in (0, 1)
        for precision in ("fp32", "bf16")
    }
    losses = {(tmp_path / "runs/sweep" / name / "steps.jsonl").read_text() for name in names}
    assert len(losses) == 4


# evaluate


@pytest.mark.parametrize(
    ("options", "images", "width"),
    [(["data.split=test", "search.width=2"], 4, 2), (["data.limit=3"], 3, 5)],
)
def test_evaluate_writes_metrics_and_captions(trained, run, tmp_path, options, images, width):
    done = run("evaluate", f"checkpoint={trained.checkpoint}", "out=scores", *options)
    assert done.status == 0, done.err
    assert files(tmp_path) == {"scores/metrics.json", "scores/captions.json"}
    metrics = json.loads((tmp_path / "scores/metrics.json").read_text())
    names = {
        f"bleu-{n}{bp}{end}"
        for n in range(1, 5)
        for bp in ("", "-no-bp")
        for end in ("", "-low", "-high")
    }
    assert metrics.keys() >= names | {"tokenizer"}
    assert (metrics["images"], metrics["width"]) == (images, width)
    captions = json.loads((tmp_path / "scores/captions.json").read_text())
    assert len(captions) == images
    assert all(set(each) == {"image_id", "caption"} for each in captions)
    assert "bleu-4" in done.out and "reference-pointing" in done.out


def test_evaluate_repeats_what_training_measured(trained: Trained, run: Run, tmp_path: Path):
    run(
        "evaluate",
        f"checkpoint={trained.checkpoint}",
        "out=.",
        "search.width=3",
        "search.max_length=8",
        "device=cpu",
    )
    measured = json.loads((trained.folder / "evaluation" / "val.json").read_text())
    found = json.loads((tmp_path / "metrics.json").read_text())
    more = {name for name in found if name.startswith(("deletion-", "reference-"))}
    assert {name: value for name, value in found.items() if name not in more} == measured
    assert "reference-pointing" in more
    for name in ("attended", "random", "difference"):  # of object words, if any were written
        assert (f"deletion-{name}" in more) == (found["object-words"] > 0)
    log = lines((trained.folder / "log.jsonl").read_text())
    assert measured["bleu-1"] in [line["bleu-1"] for line in log]


# caption


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two pictures and two damaged ones, in folders."""
    folder = tmp_path / "photos"
    write_picture(folder / "a.png")
    write_picture(folder / "deeper" / "b ü.jpg", 1)
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes()[:70])
    (folder / "deeper" / "empty.jpg").touch()
    return folder


def test_caption_goes_on_behind_damaged_pictures(trained: Trained, run: Run, photos: Path):
    options = (
        f"checkpoint={trained.checkpoint}",
        "images=photos",
        "search.max_length=8",
        "device=cpu",
    )
    done = run("caption", *options, "out=new/captions.jsonl")
    assert done.status == 0 and done.out == "", done
    rows = lines((photos.parent / "new" / "captions.jsonl").read_text())
    assert [row["image"] for row in rows] == [
        "photos/a.png",
        "photos/c.png",
        "photos/deeper/b ü.jpg",
        "photos/deeper/empty.jpg",
    ]
    assert [set(row) for row in rows[1::2]] == [{"image", "error"}] * 2
    for row in rows[::2]:
        assert set(row) == {"image", "caption", "words", "log_prob"}
        assert row["words"] == row["caption"].split() and row["log_prob"] < 0
    expected = Captioner.load(trained.checkpoint, "cpu")
    expected.options.max_length = 8
    assert rows[0]["words"] == expected(photos / "a.png").words
    assert "2 captioned, 2 could not be read" in done.err


def test_standard_output_is_json_lines_and_nothing_else(trained: Trained, photos: Path):
    """In a process of its own, where libraries may print as they please."""
    done = run_process(
        ROOT / "scripts/caption.py",
        f"checkpoint={trained.checkpoint}",
        "images=photos/*.png",
        "search.strategy=greedy",
        folder=photos.parent,
    )
    assert done.status == 0, done.err
    assert [row["image"] for row in lines(done.out)] == ["photos/a.png", "photos/c.png"]
    assert "Traceback" not in done.err and "Warning" not in done.err


def test_caption_fails_where_no_picture_can_be_read(trained: Trained, run: Run, photos: Path):
    done = run("caption", f"checkpoint={trained.checkpoint}", "images=photos/deeper/empty.jpg")
    assert done.status == 1
    assert [set(row) for row in lines(done.out)] == [{"image", "error"}]


# visualize


def test_visualize_draws_pictures(trained: Trained, run: Run, photos: Path):
    done = run("visualize", f"checkpoint={trained.checkpoint}", "images=photos", "out=drawn")
    assert done.status == 0
    drawn = {f"{name}{end}" for name in ("a", "b ü") for end in (".png", ".html", ".npz")}
    drawn.add("index.html")  # both on one page
    assert files(photos.parent / "drawn") == drawn
    assert set(done.out.splitlines()) == {f"drawn/{name}" for name in drawn}
    assert "photos/c.png" in done.err and "empty.jpg" in done.err
    Image.open(photos.parent / "drawn" / "a.png").verify()
    with np.load(photos.parent / "drawn" / "a.npz", allow_pickle=False) as arrays:
        assert len(arrays["words"]) == len(arrays["alpha"]) == len(arrays["beta"])
    page = (photos.parent / "drawn" / "a.html").read_text()
    assert page.lower().startswith("<!doctype html>")


@pytest.mark.parametrize(("view", "end"), [("gates", ".gates.png"), ("walk", ".gif")])
def test_visualize_has_other_views(trained: Trained, run: Run, photos: Path, view: str, end: str):
    options = (f"checkpoint={trained.checkpoint}", "images=photos/a.png", f"view={view}")
    done = run("visualize", *options, "out=drawn", "search.max_length=4")
    assert (done.status, done.out) == (0, f"drawn/a{end}\n")
    Image.open(photos.parent / "drawn" / f"a{end}").verify()
    assert "attention, gates, walk" in run("visualize", *options[:2], "view=none").mistake


def test_visualize_draws_a_split(trained: Trained, run: Run, tmp_path: Path):
    done = run(
        "visualize",
        f"checkpoint={trained.checkpoint}",
        "data.split=novel",
        "data.limit=1",
        "search.width=1",
    )
    assert done.status == 0
    assert len(files(tmp_path / "outputs" / "attention")) == 3


def test_visualize_fails_where_no_picture_can_be_read(trained: Trained, run: Run, photos: Path):
    done = run("visualize", f"checkpoint={trained.checkpoint}", "images=photos/c.png")
    assert done.status == 1 and "photos/c.png" in done.err
