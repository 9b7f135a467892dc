"""The same seed gives the same numbers, bit for bit; the run's folder tells what they came from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from resuming import RECIPE, assert_equal
from running import TINY, Ran
from tiny import write_picture

from captioner.provenance import commit

Run = Callable[..., Ran]


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_loader_workers_gives_the_same_bits(
    whole: Path, tmp_path: Path, run: Run, workers: int
):
    assert run("train", *RECIPE, "name=run", f"data.workers={workers}").status == 0
    assert_equal(tmp_path / "runs" / "run", whole)


def test_photographs_in_random_views_too(tmp_path: Path, run: Run):
    """Their pixels are read, cropped and mirrored by the workers."""
    rows = ["image,caption,split"]
    for number in range(12):
        write_picture(tmp_path / f"{number}.png", number)
        split = "train" if number < 10 else "val"
        rows += [f"{number}.png,a dog {word},{split}" for word in ("runs", "sits", "runs fast")]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    recipe = [option for option in RECIPE if not option.startswith("data.")]
    recipe += ["data=csv", "data.file=t.csv", "data.min_count=1", "data.views=3"]
    recipe += ["encoder.fine_tune_from=0"]
    for workers in (0, 2):
        done = run("train", *recipe, f"name=w{workers}", f"data.workers={workers}")
        assert done.status == 0, done.err
    assert_equal(tmp_path / "runs" / "w2", tmp_path / "runs" / "w0")


def test_a_run_tells_what_it_came_from(whole: Path):
    (start,) = json.loads((whole / "provenance.json").read_text())
    assert start["seed"] == 0 and "train.py" in start["command"] and "name=run" in start["command"]
    assert {"torch", "numpy", "pillow", "captioner"} <= start["packages"].keys()
    assert start["threads"] == start["processes"] == 1 and start["device"].startswith("cpu")
    assert {"python", "platform", "precision", "commit", "time"} <= start.keys()


def test_what_changed_before_it_was_resumed_is_told_and_added(tmp_path: Path, run: Run):
    run("train", *TINY, "name=run", "training.epochs=1")
    file = tmp_path / "runs" / "run" / "provenance.json"
    (start,) = json.loads(file.read_text())
    file.write_text(json.dumps([{**start, "threads": 64}]))
    done = run("train", "resume=runs/run")
    assert "not as when the run was last started: threads" in done.err
    before, after = json.loads(file.read_text())
    assert (before["threads"], after["threads"]) == (64, 1)
    assert "resume=runs/run" in after["command"]


def test_code_outside_of_git_has_no_commit(tmp_path: Path):
    assert commit(tmp_path) is None
    assert commit(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("dropout: 0.3", "dropout: 0.4", "decoder.dropout is 0.4"),
        ("epochs: 1", "epochs: 2", "training.epochs is 2"),
        ("max_length: 8", "max_length: 9", "search.max_length is 9"),
        ("hidden: 16", "hidden: 24", "decoder.hidden is 24"),
    ],
)
def test_an_option_that_was_edited_is_refused_by_its_name(
    begun: Path, tmp_path: Path, run: Run, monkeypatch, before: str, after: str, named: str
):
    monkeypatch.chdir(begun.parents[1])
    config = begun / "config.yaml"
    text = config.read_text()
    assert before in text
    config.write_text(text.replace(before, after))
    try:
        done = run("train", "resume=runs/run")
    finally:
        config.write_text(text)
    assert done.status == 2 and f"error: {named} in config.yaml" in done.err


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from running import run_script

    folder = tmp_path_factory.mktemp("begun")
    recipe = (*RECIPE, "name=run", "training.epochs=1", f"runs={folder}/runs")
    assert run_script("train", *recipe).status == 0
    return folder / "runs" / "run"


def test_captions_of_the_same_words_that_were_moved_are_refused(tmp_path: Path, run: Run):
    rows = [f"{n}.png,{caption},train" for n, caption in enumerate(["a dog", "a cat", "a dog"])]
    for number in range(4):
        write_picture(tmp_path / f"{number}.png", number)
    rows.append("3.png,a dog,val")
    recipe = (*RECIPE, "data=csv", "data.file=t.csv", "data.min_count=1", "training.epochs=1")
    recipe = [option for option in recipe if not option.startswith("data.sizes")]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["image,caption,split", *rows]))
    done = run("train", *recipe, "name=run", "training.batch_images=2")
    assert done.status == 0, done.err
    moved = [rows[0], rows[1].replace("cat", "dog"), rows[2].replace("dog", "cat"), rows[3]]
    table.write_text("\n".join(["image,caption,split", *moved]))
    done = run("train", "resume=runs/run")
    assert done.status == 2 and "error: the training data have changed" in done.err
