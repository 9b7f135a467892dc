"""A recipe that is hard to resume exactly, and what must then be the same."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from running import TINY
from safetensors.torch import load_file

RECIPE = (
    *TINY,
    "training.batch_images=4",  # 6 updates an epoch
    "training.save_every=2",
    "training.ema=0.9",
    "decoder.dropout=0.3",
)


def log_of(run: Path) -> list[dict]:
    """Validations, without what a clock measured."""
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    clocks = ("seconds", "captions_per_second")
    return [{key: value for key, value in line.items() if key not in clocks} for line in log]


def assert_equal(run: Path, whole: Path) -> None:
    """Exactly the same losses, rates and norms, scores, weights, moments and random state."""
    assert (run / "steps.jsonl").read_text() == (whole / "steps.jsonl").read_text()
    assert log_of(run) == log_of(whole)
    for name in ("best/model", "last/model", "last/training"):
        one, other = (load_file(f / "checkpoints" / f"{name}.safetensors") for f in (run, whole))
        assert one.keys() == other.keys()
        assert [key for key in one if not torch.equal(one[key], other[key])] == []
    for name in ("val.json", "val-captions.json"):
        assert (run / "evaluation" / name).read_text() == (whole / "evaluation" / name).read_text()
