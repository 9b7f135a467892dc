"""Several checkpoints averaged into one captioner, which then costs no more than each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from captioner.build import restore_model
from captioner.checkpoint import Checkpoint, open_checkpoint, save_checkpoint

TRAINED_BY = {
    "decoder": {"dropout"},
    "encoder": {"weights", "fine_tune_from", "fine_tune_above", "learning_rate"},
}
"""Options in which checkpoints may differ: they say how weights are found, not of what model."""


def average(
    checkpoints: Sequence[str], out: str | Path, shares: Sequence[float] | None = None
) -> Path:
    """Writes a checkpoint whose weights are the mean of others', and returns its folder.

    That is a model soup (Wortsman et al. 2022, "Model soups") where they are several fine-tuned
    ones, and WiSE-FT (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models") where one of
    them is what the others started from. They must have started from the same one: weights of
    models that were trained apart mean different things. `shares` are divided by their sum.

    Raises ValueError for a folder `out` that exists, shares that are not one for each, and
    checkpoints that differ in their vocabularies or their models.
    """
    out, shares = Path(out), list(shares or [1.0] * len(checkpoints))
    if len(checkpoints) < 2:
        raise ValueError("an average needs two checkpoints or more: checkpoints=[a,b]")
    if len(shares) != len(checkpoints) or min(shares) < 0 or not 0 < sum(shares) < math.inf:
        raise ValueError(
            f"shares is {shares}; give each of the {len(checkpoints)} checkpoints one that is at "
            "least 0, and not 0 to all of them"
        )
    if out.exists():
        raise ValueError(f"{out} exists already; give the average a new folder")
    opened = [open_checkpoint(folder) for folder in checkpoints]
    for other in opened[1:]:
        _check_alike(opened[0], other)
    shares = [share / sum(shares) for share in shares]
    parts = dict(zip(map(str, checkpoints), shares, strict=True))
    models = [restore_model(each, torch.device("cpu")) for each in opened]
    models[0].load_state_dict(_mean([model.state_dict() for model in models], shares))
    save_checkpoint(out, models[0], opened[0].options, opened[0].vocabulary, {"average of": parts})
    return out


def _check_alike(one: Checkpoint, other: Checkpoint) -> None:
    """Raises ValueError unless both hold weights of the same model for the same words."""
    if one.vocabulary.hash != other.vocabulary.hash:
        raise ValueError(f"{one.folder} and {other.folder} have different vocabularies")
    for part, ignored in TRAINED_BY.items():
        here, there = (vars(getattr(each.options, part)) for each in (one, other))
        for name in here.keys() - ignored:
            if here[name] != there[name]:
                raise ValueError(
                    f"{part}.{name} is {here[name]} in {one.folder} and {there[name]} in "
                    f"{other.folder}; only weights of one model can be averaged"
                )


def _mean(several: Sequence[dict[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """Of numbers in floating point; counters are the first one's."""

    def mean(name: str, first: Tensor) -> Tensor:
        if not first.is_floating_point():
            return first
        parts = (share * each[name].double() for share, each in zip(shares, several, strict=True))
        return sum(parts).to(first.dtype)

    return {name: mean(name, first) for name, first in several[0].items()}
