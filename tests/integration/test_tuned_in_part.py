"""An encoder of which the upper part is fine-tuned, on what its lower part gave once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from running import TINY, Ran
from safetensors.torch import load_file
from torchvision.models import get_model

from captioner.captioner import Captioner
from captioner.data.shapes import read_shapes

PART = ("encoder=resnet50", "encoder.name=resnet18", "encoder.node=layer3", "data.views=2")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(get_model("resnet18", weights=None).state_dict(), path)
    return path


def test_the_upper_part_learns_from_what_the_lower_gave_once(
    run: Callable[..., Ran], weights: Path, tmp_path: Path
):
    part = (*PART, f"encoder.weights={weights}", "encoder.fine_tune_above=layer1")
    foretold = run("train", *TINY, *part, "encoder.fine_tune_from=1", "dry_run=true")
    assert foretold.status == 0 and "54 images, views counted" in foretold.out, foretold
    done = run("train", *TINY, *part, "encoder.fine_tune_from=1", "name=x")
    assert done.status == 0, done.err
    indices = [json.loads(file.read_text()) for file in tmp_path.glob("cache/*/index.json")]
    assert sorted(index["shape"] for index in indices) == [[6, 64, 64], [48, 64, 64]]

    best = tmp_path / "runs" / "x" / "checkpoints" / "best"
    first, stored = torch.load(weights, weights_only=True), load_file(best / "model.safetensors")
    kept = [name for name in first if not name.startswith(("layer4", "fc"))]
    for name in kept:
        learns = name.startswith(("layer2", "layer3")) and name.endswith(("weight", "bias"))
        assert torch.equal(stored[f"encoder.trunk.0.{name}"], first[name]) != learns, name

    # From what is cached, and from pixels.
    ran = run("evaluate", f"checkpoint={best}", "device=cpu")
    assert ran.status == 0, ran.err
    assert len(list((tmp_path / "cache").iterdir())) == 2
    results = json.loads((tmp_path / "outputs" / "evaluation" / "captions.json").read_text())
    sizes = {"train": 24, "val": 6, "test": 4, "novel": 4}
    scenes = read_shapes(**sizes, seed=0).split("val")
    captioner = Captioner.load(best, "cpu")
    assert captioner.model.encoder.grid.height == 2
    written = [each.text for each in captioner.caption([scene.image for scene in scenes])]
    assert [each["caption"] for each in results] == written
