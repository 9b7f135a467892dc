"""Attention that is told where to look looks there, in scenes that it was not trained on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from running import TINY, Ran

RECIPE = (
    *TINY,
    "data.sizes={train:160,val:40}",
    "decoder.hidden=32",
    "decoder.attention=16",
    "training.epochs=4",
    "training.validate_every=4",
    "training.learning_rate=5e-3",
    "search.width=1",
)


def test_told_attention_points_at_what_is_named(run: Callable[..., Ran]):
    found = {}
    for name, weight in (("free", 0), ("told", 3)):
        done = run("train", *RECIPE, f"loss.grounding={weight}", f"name={name}")
        assert done.status == 0, done.err
        checkpoint = f"checkpoint=runs/{name}/checkpoints/best"
        done = run("evaluate", checkpoint, "search.width=1", f"out={name}", "device=cpu")
        assert done.status == 0, done.err
        found[name] = json.loads(Path(name, "metrics.json").read_text())
    free, told = found["free"], found["told"]
    assert told["reference-pointing"] > free["reference-pointing"] + 20, found
    assert told["reference-attention-inside"] > free["reference-attention-inside"] + 10, found
