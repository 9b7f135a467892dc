"""An update is one step on its images, however it is cut up; the loop around it keeps its word."""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from bench import UPDATES, Bench, copied, equal
from helpers import KINDS

from captioner.config import LossOptions
from captioner.training import learning_rate


def weights(bench: Bench, part: str) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in getattr(bench.model, part).parameters()])


def test_the_learning_rate_rises_and_falls_as_told():
    def at(progress: float, schedule: str = "cosine") -> float:
        return learning_rate(progress, 0.2, schedule)

    assert [at(p) for p in (0.0, 0.1, 0.2)] == pytest.approx([0, 0.5, 1])
    assert [at(p) for p in (0.4, 0.6, 0.8, 1.0)] == pytest.approx(
        [0.5 * (1 + math.cos(math.pi / 4)), 0.5, 0.5 * (1 - math.cos(math.pi / 4)), 0]
    )
    assert [at(p, "constant") for p in (0.1, 0.2, 0.7, 1.0)] == pytest.approx([0.5, 1, 1, 1])
    assert learning_rate(0.0, 0.0, "cosine") == 1  # without a warm-up


def test_each_group_gets_its_peak_times_the_factor(tmp_path: Path):
    bench = Bench(tmp_path, learning_rate=4e-3, warmup=0.5, epochs=2, schedule="constant").fit()
    rates = [line["learning_rate"] for line in bench.lines()]
    assert rates == pytest.approx([4e-3 * f for f in (1 / 3, 2 / 3, 1, 1, 1, 1)])
    assert [group["lr"] for group in bench.trainer.optimizer.param_groups] == [4e-3, 1e-3]


@pytest.mark.parametrize("per", ["word", "caption"])
def test_an_update_in_pieces_is_the_same_update(tmp_path: Path, per: str):
    """Pieces hold different numbers of words, so a mean of their means would differ by more."""
    one, other = (
        Bench(
            tmp_path / str(n),
            loss=LossOptions(per=per),
            accumulation=n,
            epochs=2,
            learning_rate=1e-3,
        ).fit()
        for n in (1, 3)
    )
    assert len(one.lines()) == 2 * UPDATES
    for a, b in zip(one.lines(), other.lines(), strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    assert torch.allclose(weights(one, "decoder"), weights(other, "decoder"), atol=1e-4)


def test_losses_are_per_word_or_per_caption_of_the_whole_update(tmp_path: Path):
    """The two differ in the gradient's scale alone: by words per caption, above 5 in each scene."""
    word, caption = (
        Bench(tmp_path / per, loss=LossOptions(per=per)).fit().lines()[0]
        for per in ("word", "caption")
    )
    assert word["loss"] == caption["loss"] and word["penalty"] == caption["penalty"]
    first = next(iter(Bench(tmp_path / "x").trainer.loader))
    assert caption["gradient_norm"] / word["gradient_norm"] == pytest.approx(
        first.words / first.captions, rel=1e-4
    )


def test_the_penalty_is_learnt_with_its_weight(tmp_path: Path):
    without, light, heavy = (
        Bench(tmp_path / str(w), loss=LossOptions(penalty=w), epochs=4).fit().lines()
        for w in (0.0, 1.0, 30.0)
    )
    assert without[0]["penalty"] == heavy[0]["penalty"]
    assert heavy[0]["gradient_norm"] > light[0]["gradient_norm"] > without[0]["gradient_norm"]
    assert heavy[-1]["penalty"] < without[-1]["penalty"]


GROUNDED = {"aligned": True, "loss": LossOptions(grounding=1.0)}


def test_regions_are_learnt_the_same_however_an_update_is_cut_up(tmp_path: Path):
    """Pieces hold different numbers of named words; what is logged is the mean over all of them."""
    one, other = (Bench(tmp_path / str(n), accumulation=n, **GROUNDED).fit() for n in (1, 3))
    first = next(iter(one.trainer.loader))
    assert 0 < first.named < first.words
    for a, b in zip(one.lines(), other.lines(), strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    assert torch.allclose(weights(one, "decoder"), weights(other, "decoder"), atol=1e-4)
    (line,) = one.lines("log")
    epoch = [step["grounding"] for step in one.lines()]
    assert min(epoch) < line["grounding"] < max(epoch)


@pytest.mark.parametrize("kind", ["soft", "hard", "multihead", "dot", "adaptive"])
def test_attention_of_every_kind_learns_where_to_look_with_its_weight(tmp_path: Path, kind: str):
    def told(weight: float) -> list[float]:
        bench = Bench(
            tmp_path / str(weight),
            loss=LossOptions(grounding=weight),
            decoder=KINDS.get(kind),
            aligned=True,
            epochs=3,
            learning_rate=2e-2,
        )
        return [line["grounding"] for line in bench.fit().lines()]

    without, light, heavy = map(told, (0.0, 1.0, 30.0))
    assert without[0] == light[0] == heavy[0]
    assert heavy[-1] < light[-1] < without[-1]
    assert heavy[-1] < 0.9 * heavy[0]


def test_without_its_weight_regions_change_nothing(tmp_path: Path):
    plain, told = (
        Bench(tmp_path / str(aligned), aligned=aligned, decoder={"dropout": 0.3}).fit()
        for aligned in (False, True)
    )
    assert equal(copied(plain.model), copied(told.model))
    assert all("grounding" not in line for line in plain.lines() + plain.lines("log"))
    for a, b in zip(plain.lines(), told.lines(), strict=True):
        assert b.pop("grounding") > 0 and a == b


@pytest.mark.parametrize("clip", [0.05, 1e6])
def test_gradients_are_clipped_to_their_norm(tmp_path: Path, clip: float):
    bench, norms = Bench(tmp_path, clip=clip), []
    step = bench.trainer.optimizer.step

    def watch() -> None:
        gradients = [p.grad.flatten() for p in bench.model.parameters() if p.grad is not None]
        norms.append(torch.cat(gradients).norm().item())
        step()

    bench.trainer.optimizer.step = watch
    logged = [line["gradient_norm"] for line in bench.fit().lines()]
    assert norms == pytest.approx([min(clip, norm) for norm in logged], rel=1e-3)


ESTIMATORS = ("reinforce", "gumbel", "straight_through")
DECODERS = [
    {"attention_kind": "soft"},
    *({"attention_kind": "hard", "estimator": estimator} for estimator in ESTIMATORS),
]


@pytest.mark.parametrize("decoder", DECODERS)
def test_it_learns(tmp_path: Path, decoder: dict[str, str]):
    lines = Bench(tmp_path, epochs=8, learning_rate=1e-2, decoder=decoder).fit().lines()
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]


@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_baseline_follows_the_updates_however_they_are_cut_up(tmp_path: Path, accumulation):
    hard = {"attention_kind": "hard"}
    bench = Bench(tmp_path, epochs=2, accumulation=accumulation, decoder=hard).fit()
    baseline = 0.0
    for line in bench.lines():
        baseline = 0.9 * baseline - 0.1 * line["loss"]
    assert bench.trainer.position.baseline == pytest.approx(baseline, rel=1e-6)


def test_attention_learns_by_reinforce_with_its_weight_and_from_the_baseline(tmp_path: Path):
    """With no image read by expectation and no penalty, nothing else leads to its weights."""

    def learnt(baseline: float = 0.0, **weights: float) -> torch.Tensor:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        loss = LossOptions(**{"penalty": 0.0, "entropy": 0.0, **weights})
        hard = {"attention_kind": "hard", "expectation": 0.0}
        bench = Bench(folder, loss=loss, decoder=hard, optimizer="rmsprop", weight_decay=0.0)
        torch.manual_seed(0)
        bench.trainer.position.baseline = baseline
        before = bench.model.decoder.attention.key.weight.detach().clone()
        bench.trainer._update([next(iter(bench.trainer.loader))])
        return bench.model.decoder.attention.key.weight.detach() - before

    assert not learnt(reinforce=0.0).any()
    assert learnt(reinforce=1.0).any()
    assert learnt(reinforce=0.0, entropy=1.0).any()
    assert not torch.equal(learnt(reinforce=1.0), learnt(reinforce=1.0, baseline=-3.0))


@pytest.mark.parametrize("fine_tune_from", [None, 0, 1])
def test_the_encoder_learns_from_its_epoch_on(tmp_path: Path, fine_tune_from: int | None):
    bench = Bench(tmp_path, epochs=2, fine_tune_from=fine_tune_from)
    before = weights(bench, "encoder")
    bench.fit()
    start, first, second = [saved.weights for saved in bench.saved if saved.name == "last"]
    key = next(name for name in start if name.startswith("encoder"))
    assert torch.equal(start[key], first[key]) == (fine_tune_from != 0)
    assert torch.equal(first[key], second[key]) == (fine_tune_from is None)
    assert torch.equal(before, weights(bench, "encoder")) == (fine_tune_from is None)


# Averages, validations and what is kept.


def test_what_is_validated_and_saved_is_the_average(tmp_path: Path):
    bench, name = Bench(tmp_path, ema=0.5, epochs=2), "decoder.init.cell.weight"
    live, seen = [], []
    mean = bench.model.decoder.init.cell.weight.detach().clone()
    update = bench.trainer._update

    def watch(pieces: list) -> dict:
        line = update(pieces)
        live.append(bench.model.decoder.init.cell.weight.detach().clone())
        return line

    def validate() -> dict[str, float]:
        seen.append(bench.model.decoder.init.cell.weight.detach().clone())
        return {"val_loss": 1.0, "bleu-4": 1.0}

    bench.trainer._update, bench.trainer.validate = watch, validate
    bench.fit()
    for updates, value in enumerate(live, start=1):
        decay = min(0.5, (1 + updates) / (10 + updates))
        mean = decay * mean + (1 - decay) * value
    last = bench.saved[-1]
    torch.testing.assert_close(last.weights[name], mean, rtol=1e-5, atol=1e-7)
    assert torch.equal(seen[-1], last.weights[name])
    assert any(torch.equal(tensor, live[-1]) for tensor in last.state.tensors.values())
    assert torch.equal(bench.model.decoder.init.cell.weight, live[-1])


def test_the_best_is_kept_and_the_last_too(tmp_path: Path):
    scores = [10.0, 12.0, 11.0, 12.0]
    bench = Bench(tmp_path, lambda n: scores[n - 1], epochs=4).fit()
    assert bench.names() == ["last", "best", "last", "best", "last", "last", "last"]
    assert [saved.metrics["bleu-4"] for saved in bench.saved if saved.name == "best"] == [10, 12]
    log = bench.lines("log")
    assert [(line["epoch"], line["step"], line["bleu-4"]) for line in log] == [
        (epoch, epoch * UPDATES, score) for epoch, score in enumerate(scores, start=1)
    ]
    for line in log:
        epoch = [s["loss"] for s in bench.lines() if 0 <= line["step"] - s["step"] < UPDATES]
        assert min(epoch) < line["loss"] < max(epoch)  # the epoch's mean
        assert line["captions_per_second"] > 0 and line["seconds"] >= 0


def test_while_the_score_is_nothing_the_later_checkpoint_is_the_better_one(tmp_path: Path):
    scores = [0.0, 0.0, 3.0, 0.0]
    bench = Bench(tmp_path, lambda n: scores[n - 1], epochs=4, patience=3).fit()
    best = [saved.metrics["epoch"] for saved in bench.saved if saved.name == "best"]
    assert best == [1, 2, 3] and bench.validations == 4


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 6), (None, 8)])
def test_patience_ends_after_so_many_validations_without_a_better_score(
    tmp_path: Path, patience: int | None, epochs: int
):
    scores = [5, 6, 6, 7, 7, 1, 2, 3]
    bench = Bench(tmp_path, lambda n: scores[n - 1], epochs=8, patience=patience).fit()
    assert bench.validations == epochs == bench.trainer.position.epoch


def test_validations_come_every_so_many_epochs_and_at_the_end(tmp_path: Path):
    bench = Bench(tmp_path, epochs=5, validate_every=2).fit()
    assert [line["epoch"] for line in bench.lines("log")] == [2, 4, 5]


def test_last_is_saved_within_an_epoch(tmp_path: Path):
    bench = Bench(tmp_path, epochs=2, save_every=2).fit()
    states = [saved.state.values for saved in bench.saved if saved.name == "last"]
    assert [(s["epoch"], s["update"], s["updates"]) for s in states] == [
        (0, 0, 0),
        (0, 2, 2),
        (1, 0, 3),
        (1, 1, 4),
        (2, 0, 6),
    ]


def test_a_loss_that_is_no_number_stops_before_anything_is_overwritten(tmp_path: Path):
    bench = Bench(tmp_path, epochs=3)
    update = bench.trainer._update

    def poison(pieces: list) -> dict:
        if bench.trainer.position.updates == UPDATES + 1:
            bench.model.decoder.init.cell.bias.data.fill_(float("nan"))
        return update(pieces)

    bench.trainer._update = poison
    with pytest.raises(ValueError, match=r"loss is nan at update 5; .* training\.learning_rate"):
        bench.fit()
    assert bench.names() == ["last", "best", "last"]
    assert all(w.isfinite().all() for saved in bench.saved for w in saved.weights.values())
    assert len(bench.lines()) == UPDATES + 1


# Going on.


@pytest.fixture(scope="module", params=["soft", "hard"])
def recipe(request: pytest.FixtureRequest) -> dict[str, Any]:
    decoder = {"attention_kind": request.param, "dropout": 0.3}
    told = GROUNDED if request.param == "soft" else {}
    return {"epochs": 2, "save_every": 2, "ema": 0.9, "accumulation": 2, "decoder": decoder} | told


@pytest.fixture(scope="module")
def whole(recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """What nothing interrupted."""
    torch.set_num_threads(1)
    return Bench(tmp_path_factory.mktemp("whole"), **recipe).fit()


@pytest.mark.parametrize("stop", range(5))
def test_a_trainer_restored_from_any_save_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, stop: int, recipe: dict[str, Any], whole: Bench
):
    place = [i for i, saved in enumerate(whole.saved) if saved.name == "last"][stop]
    start = whole.saved[place]
    resumed = Bench(tmp_path, **recipe)
    torch.manual_seed(99)
    resumed.model.load_state_dict(start.weights)
    resumed.trainer.restore(deepcopy(start.state))
    resumed.fit()
    assert resumed.lines() == whole.lines()[start.state.values["updates"] :]
    assert equal(copied(resumed.model), copied(whole.model))
    later = whole.saved[place + (stop > 0) :]  # the first save of all comes again
    assert [saved.name for saved in resumed.saved] == [saved.name for saved in later]
    for one, other in zip(resumed.saved, later, strict=True):
        assert equal(one.weights, other.weights)
        assert one.state is None or equal(one.state.tensors, other.state.tensors)


def test_another_number_of_processes_is_refused(tmp_path: Path):
    bench = Bench(tmp_path)
    state = bench.trainer.state()
    state.values["processes"] = 2
    with pytest.raises(ValueError, match=r"trained by 2 processes, now there are 1; .*torchrun"):
        bench.trainer.restore(state)
