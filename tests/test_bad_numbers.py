"""A loss or gradient that is no number costs its update alone, and too many of them the run."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bench import UPDATES, Bench, copied, equal
from torch import Tensor

from captioner.losses import CaptionLoss


def poison(bench: Bench, bad: set[int], spoil: Callable[[Tensor], Tensor]) -> Bench:
    """Has `spoil` change the loss of one piece of each update in `bad`, counted from 1."""
    loss, spoilt = bench.trainer.objective.loss, set()

    def poisoned(model, lesson, baseline) -> CaptionLoss:
        found, update = loss(model, lesson, baseline), bench.trainer.position.updates + 1
        if update not in bad or update in spoilt:
            return found
        spoilt.add(update)
        return found._replace(cross_entropy=spoil(found.cross_entropy))

    bench.trainer.objective.loss = poisoned
    return bench


class Steep(torch.autograd.Function):
    """The same number, with a gradient that is none."""

    @staticmethod
    def forward(context, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        return gradient * math.inf


SPOILS = {
    "nan": lambda loss: loss * math.nan,
    "inf": lambda loss: loss + math.inf,
    "gradient": Steep.apply,
}


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_the_update_is_skipped_whole_and_the_next_one_goes_on(tmp_path: Path, spoil, accumulation):
    weights = []
    bench = Bench(tmp_path, epochs=2, ema=0.9, accumulation=accumulation)
    update = bench.trainer._update

    def watch(pieces: list) -> dict:
        line = update(pieces)
        weights.append(copied(bench.model))
        return line

    bench.trainer._update = watch
    poison(bench, {2}, spoil).fit()
    assert equal(weights[0], weights[1]) and not equal(weights[1], weights[2])
    lines = bench.lines()
    assert lines[1] == {"step": 2, "skipped": 1}
    assert len(lines) == 2 * UPDATES and all("loss" in line for line in lines[:1] + lines[2:])
    log = bench.lines("log")
    assert [line["skipped"] for line in log] == [1, 1]
    assert all(math.isfinite(line["loss"]) for line in log)
    assert all(w.isfinite().all() for saved in bench.saved for w in saved.weights.values())
    moments = bench.saved[-1].state.tensors.values()
    assert all(tensor.isfinite().all() for tensor in moments)


def test_too_many_in_a_row_end_the_run_and_name_its_images(tmp_path: Path):
    bench = Bench(tmp_path, epochs=3, max_skipped=2)
    poison(bench, {2, 5, 6, 7}, SPOILS["nan"])  # the first stands alone
    with pytest.raises(ValueError, match=r"loss is nan at update 7; 3 in a row;") as caught:
        bench.fit()
    batches = bench.trainer.batches.at(2)
    (first, *_) = batches
    images = [bench.trainer.loader.dataset.records[item].image_id for item in first]
    assert str(caught.value).endswith("Its images: " + ", ".join(images))
    assert [line.get("skipped") for line in bench.lines()] == [None, 1, None, None, 1, 2]
    assert bench.names() == ["last", "best", "last", "best", "last"]
    assert all(w.isfinite().all() for saved in bench.saved for w in saved.weights.values())


def test_an_epoch_of_nothing_else_is_still_validated_and_told(tmp_path: Path):
    bench = poison(Bench(tmp_path, epochs=1), set(range(1, UPDATES + 1)), SPOILS["inf"]).fit()
    (line,) = bench.lines("log")
    assert line["skipped"] == UPDATES and "loss" not in line


def test_weights_that_are_no_numbers_are_never_saved(tmp_path: Path):
    """They may become so in a step whose gradient was one."""
    bench = Bench(tmp_path, epochs=2)
    end = bench.trainer._end_epoch

    def spoil(log) -> None:
        if bench.trainer.position.epoch == 1:
            bench.model.decoder.init.cell.bias.data[0] = math.inf
        end(log)

    bench.trainer._end_epoch = spoil
    with pytest.raises(ValueError, match="weights are no numbers any more after update 6"):
        bench.fit()
    assert bench.names() == ["last", "best", "last"]


def test_a_resumed_run_goes_on_counting(tmp_path: Path):
    recipe = {"epochs": 3, "max_skipped": 3}
    bad = {2, 3, 4, 5}
    whole = poison(Bench(tmp_path / "whole", **recipe), bad, SPOILS["nan"])
    with pytest.raises(ValueError, match="at update 5; 4 in a row"):
        whole.fit()
    last = whole.saved[-1]
    assert last.state.values["updates"] == 3
    resumed = poison(Bench(tmp_path / "resumed", **recipe), bad, SPOILS["nan"])
    resumed.model.load_state_dict(last.weights)
    resumed.trainer.restore(last.state)
    with pytest.raises(ValueError, match="at update 5; 4 in a row"):
        resumed.fit()
