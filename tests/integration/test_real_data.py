"""Pictures and captions of one's own, from training to scores; features are computed once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from running import TINY, WORDS, Ran, write_flickr8k
from tiny import write_picture
from torchvision.models import get_model

from captioner.models.encoder import Encoder

Run = Callable[..., Ran]


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
    write_flickr8k(tmp_path / "f8k")
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
    assert done.status == 0 and json.loads(done.out)["words"] and sum(seen) == 11
