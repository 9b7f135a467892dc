"""What the commands promise: the files they write, their exit status, and mistakes in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from running import ROOT, TINY, Ran, Trained, run_process
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import write_picture
from torchvision.models import get_model

from captioner.captioner import Captioner
from captioner.models.encoder import Encoder

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
        f"attention/{name}" for name in pictures
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
    assert "runs/tiny/attention/shapes-val-00000.html" in trained.out


def test_a_taken_name_is_refused_and_nothing_is_changed(trained: Trained, run: Run):
    before = {path: path.stat().st_mtime_ns for path in trained.folder.rglob("*")}
    done = run("train", *TINY, "name=tiny", f"runs={trained.folder.parent}")
    assert f"resume={trained.folder}" in done.mistake and "name=" in done.err
    assert {path: path.stat().st_mtime_ns for path in trained.folder.rglob("*")} == before


def test_runs_without_a_name_get_the_next_free_one(run: Run, tmp_path: Path):
    (tmp_path / "runs" / "shapes").mkdir(parents=True)
    assert run("train", *TINY, "training.epochs=1").status == 0
    assert (tmp_path / "runs" / "shapes-2" / "checkpoints" / "best").is_dir()


def test_a_sweep_is_a_run_per_job_named_by_what_differs(run: Run, tmp_path: Path):
    recipe = [option for option in TINY if "precision" not in option]
    sweep = ("training.seed=0,1", "training.precision=fp32,bf16", "name=sweep")
    done = run("train", "--multirun", *recipe, "training.epochs=1", *sweep)
    assert done.status == 0, done.err
    names = {folder.name for folder in (tmp_path / "runs" / "sweep").iterdir()}
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
    assert "bleu-4" in done.out


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
    assert json.loads((tmp_path / "metrics.json").read_text()) == measured
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
    assert files(photos.parent / "drawn") == drawn
    assert set(done.out.splitlines()) == {f"drawn/{name}" for name in drawn}
    assert "photos/c.png" in done.err and "empty.jpg" in done.err
    Image.open(photos.parent / "drawn" / "a.png").verify()
    with np.load(photos.parent / "drawn" / "a.npz", allow_pickle=False) as arrays:
        assert len(arrays["words"]) == len(arrays["alpha"]) == len(arrays["beta"])
    page = (photos.parent / "drawn" / "a.html").read_text()
    assert page.lower().startswith("<!doctype html>")


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


# Mistakes.


@pytest.mark.parametrize(
    ("script", "arguments", "named"),
    [
        ("train", "trainig.epochs=3", "'trainig.epochs'; did you mean training.epochs"),
        ("train", "decoder.hiden=3", "'decoder.hiden'; did you mean decoder.hidden"),
        ("train", "+decoder.depth=3", "'decoder.depth'"),
        ("train", "epochs=3", "'epochs'; did you mean training.epochs"),
        ("train", "training.epochs=many", "training.epochs=many: .*Integer"),
        ("train", "training.epochs=0", "training.epochs is 0; it must be at least 1"),
        ("train", "training.epochs=", "training.epochs="),
        ("train", "training=3", "training=3"),
        ("train", "decoder.beta=both", "decoder.beta is 'both'.* scalar, vector, none"),
        ("train", "decoder=moderne", "no decoder 'moderne'; choose one of modern, paper"),
        ("train", "data=imagenet", "no data 'imagenet'; choose one of coco, csv, flickr8k"),
        ("train", "encoder=resnet", "no encoder 'resnet'; choose one of .*resnet50"),
        ("train", "nonsense", "'nonsense' is no option; options are written key=value"),
        ("train", "data=flickr8k", "data=flickr8k needs data.root"),
        ("train", "data=flickr8k data.root=nowhere", "nowhere: no such folder"),
        ("train", "data=csv data.file=no.csv", "no.csv"),
        ("train", "data=karpathy data.file=no.json data.root=.", "no.json"),
        ("train", "data=coco data.root=nowhere", "nowhere"),
        ("train", "encoder.weights=no.pt", "no.pt"),
        ("train", "encoder.name=resnet0 encoder.node=layer4", "no encoder 'resnet0'"),
        ("train", "device=gpu", "no device 'gpu' here"),
        ("train", "resume=nowhere", "resume=nowhere is no run"),
        ("train", "resume=RUN training.epochs=9", "training.epochs=9 can't be set"),
        ("evaluate", "", "checkpoint= is missing"),
        ("evaluate", "checkpoint=nowhere", "nowhere is no checkpoint"),
        ("evaluate", "checkpoint=RUN", "did you mean .*tiny/checkpoints/best"),
        ("evaluate", "checkpoint=BEST data.split=dev", "no split 'dev'.* train, val, test, novel"),
        ("evaluate", "checkpoint=BEST search.width=0", "search.width is 0"),
        ("evaluate", "checkpoint=BEST training.epochs=1", "'training.epochs'"),
        ("caption", "checkpoint=BEST", "images= is missing"),
        ("caption", "checkpoint=BEST images=nowhere", "no image file or folder 'nowhere'"),
        ("caption", "checkpoint=BEST images=.", "no images in the folder"),
        ("caption", "checkpoint=BEST images=RUN/*.jpg", r"no images match .*\*.jpg"),
        ("caption", "images=.", "checkpoint= is missing"),
        ("visualize", "checkpoint=BEST images=nowhere", "no image file or folder 'nowhere'"),
        ("visualize", "checkpoint=BEST search.strategy=best", "greedy, beam, sample"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_it(trained, run, tmp_path, script, arguments, named):
    places = {"BEST": str(trained.checkpoint), "RUN": str(trained.folder)}
    given = [re.sub("BEST|RUN", lambda m: places[m[0]], each) for each in arguments.split()]
    done = run(script, *given)
    assert re.search(named, done.mistake), done.err
    assert done.err.startswith("error: ") and list(tmp_path.iterdir()) == []


def test_a_mistake_in_a_process_of_its_own(tmp_path: Path):
    script = ROOT / "scripts" / "train.py"
    plain = run_process(script, "data=flickr8k", folder=tmp_path)
    assert "data=flickr8k needs data.root" in plain.mistake
    shown = run_process(script, "data=flickr8k", "debug=true", folder=tmp_path)
    assert shown.status != 0 and "Traceback" in shown.err and "needs data.root" in shown.err


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_shows_examples_and_every_option(run: Run, script: str):
    done = run(script, "--help")
    assert done.status == 0
    assert f"python scripts/{script}.py" in done.out
    assert "checkpoint:" in done.out or script == "train"
    assert "search:" in done.out and "max_length:" in done.out and "device:" in done.out


def test_help_names_every_group_and_its_choices(run: Run):
    text = run("train", "--help").out
    for folder in (ROOT / "conf").iterdir():
        if folder.is_dir():
            choices = re.search(rf"{folder.name}: (.*)", text)
            assert choices, f"--help does not tell the group {folder.name}"
            found = {choice.strip() for choice in choices[1].split(",")}
            assert found == {path.stem for path in folder.glob("*.yaml")}


@pytest.mark.parametrize("script", SCRIPTS)
def test_cfg_shows_the_options_with_their_values(run: Run, script: str):
    done = run(script, "--cfg", "job", "search.width=7")
    assert done.status == 0 and "width: 7" in done.out


# Real data.


WORDS = ("A red dog runs .", "Two cats, asleep.", "The dog jumps!", "A cat sits on a mat .")


@pytest.fixture
def csv(tmp_path: Path) -> list[str]:
    """A table of ten pictures, and a row that is left out."""
    rows = ["image,caption,split"]
    for i in range(10):
        write_picture(tmp_path / "mine" / f"{i}.png", i)
        split = "val" if i > 6 else "train"
        rows += [f'{i}.png,"{WORDS[i % 4]}",{split}', f'{i}.png,"{WORDS[(i + 1) % 4]}",{split}']
    (tmp_path / "mine" / "captions.csv").write_text("\n".join([*rows, "gone.png,A dog.,train"]))
    return ["data=csv", "data.file=mine/captions.csv"]


@pytest.fixture
def flickr8k(tmp_path: Path) -> list[str]:
    """Ten pictures in the files that Flickr8k is published in."""
    folder, tokens = tmp_path / "f8k", []
    splits = {"train": range(7), "dev": (7, 8), "test": (9,)}
    for i in range(10):
        write_picture(folder / "Flicker8k_Dataset" / f"{i}_x.jpg", i)
        tokens += [f"{i}_x.jpg#{k}\t{WORDS[(i + k) % 4]}\n" for k in range(5)]
    (folder / "Flickr8k.token.txt").write_text("".join(tokens))
    for split, numbers in splits.items():
        names = "".join(f"{i}_x.jpg\n" for i in numbers)
        (folder / f"Flickr_8k.{split}Images.txt").write_text(names)
    return ["data=flickr8k", "data.root=f8k"]


REAL = [option for option in TINY if not option.startswith("data.")] + [
    "data.min_count=1", "training.epochs=1",
]  # fmt: skip


@pytest.mark.parametrize("data", ["csv", "flickr8k"])
def test_real_data_from_training_to_scores(run: Run, tmp_path: Path, request, data: str):
    options = request.getfixturevalue(data)
    done = run("train", *options, *REAL, "name=real", "training.pictures=1")
    assert done.status == 0, done.err
    assert "7 training and" in done.err
    assert ("gone.png" in done.err) == (data == "csv")
    split = "val" if data == "csv" else "test"
    checkpoint = "checkpoint=runs/real/checkpoints/best"
    done = run("evaluate", checkpoint, f"data.split={split}", "out=scores")
    assert done.status == 0, done.err
    captions = json.loads((tmp_path / "scores" / "captions.json").read_text())
    ids = ["7.png", "8.png", "9.png"] if data == "csv" else ["9_x.jpg"]
    assert [each["image_id"] for each in captions] == ids
    metrics = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert metrics["images"] == len(ids) and "true" not in metrics
    pictures = [path.name for path in (tmp_path / "runs" / "real" / "attention").glob("*.png")]
    assert pictures == ["7.png" if data == "csv" else "7_x.png"]
    moved = (tmp_path / options[1].split("=")[1].split("/")[0]).rename(tmp_path / "moved")
    place = f"data.file={moved}/captions.csv" if data == "csv" else f"data.root={moved}"
    again = run("evaluate", checkpoint, f"data.split={split}", "out=again", place)
    assert again.status == 0, again.err
    assert json.loads((tmp_path / "again" / "metrics.json").read_text()) == metrics


def test_a_frozen_trunk_sees_each_image_once_for_all_runs(run: Run, tmp_path, csv, monkeypatch):
    torch.manual_seed(0)
    torch.save(get_model("mobilenet_v2", weights=None).state_dict(), tmp_path / "trunk.pt")
    encoder = ["encoder=mobilenet_v2", "encoder.weights=trunk.pt", "encoder.node=features.3"]
    recipe = [*csv, *REAL, *encoder, "decoder.dropout=0.2", "data.cache=features"]
    seen, forward = [], Encoder.forward

    def watched(self: Encoder, pixels: torch.Tensor) -> torch.Tensor:
        seen.append(len(pixels))
        return forward(self, pixels)

    monkeypatch.setattr(Encoder, "forward", watched)
    assert run("train", *recipe, "name=first").status == 0
    assert sum(seen) == 10
    assert run("train", *recipe, "name=second").status == 0
    checkpoint = "checkpoint=runs/first/checkpoints/best"
    assert run("evaluate", checkpoint, "out=scores").status == 0
    assert sum(seen) == 10  # the second run and the evaluation found all features cached
    first, second = (tmp_path / "runs" / name / "steps.jsonl" for name in ("first", "second"))
    assert first.read_text() == second.read_text()
    (tmp_path / "trunk.pt").unlink()  # the checkpoint holds the trunk
    done = run("caption", checkpoint, "images=mine/1.png")
    assert done.status == 0 and lines(done.out)[0]["words"] and sum(seen) == 11
