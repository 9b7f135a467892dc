"""A sweep ends in a table of its jobs, whatever becomes of some of them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from running import TINY, Ran

Run = Callable[..., Ran]
RECIPE = [*(option for option in TINY if "epochs" not in option), "training.epochs=1"]


def compared(folder: Path) -> list[str]:
    """The captioners in a comparison, the first one first."""
    with (folder / "comparison.csv").open(newline="", encoding="utf-8") as file:
        return list(dict.fromkeys(row["captions"] for row in csv.DictReader(file)))


def test_the_jobs_of_this_sweep_that_succeeded_are_compared(run: Run, tmp_path: Path):
    sweep = tmp_path / "runs" / "x"
    betas = "decoder.beta=vector,bad,none"
    done = run("train", "--multirun", *RECIPE, "name=x", betas)
    assert done.status == 2 and done.err.count("error: decoder.beta is 'bad'") == 1
    assert compared(sweep) == ["decoder.beta=vector", "decoder.beta=none"]
    assert "comparison.png" in done.out
    assert "`decoder.beta=none`" in (sweep / "comparison.md").read_text()
    done = run("train", "--multirun", *RECIPE, "name=x", "training.seed=1")
    assert done.status == 0, done.err
    assert compared(sweep) == ["0"]


def test_jobs_on_other_images_are_not_compared_and_it_is_said_why(run: Run, tmp_path: Path):
    done = run("train", "--multirun", *RECIPE, "name=x", "data.limit=3,5")
    assert done.status == 0, done.err
    assert "no comparison of the jobs: " in done.err
    assert not (tmp_path / "runs" / "x" / "comparison.md").exists()


def test_optuna_looks_for_the_best_bleu(run: Run, tmp_path: Path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    trials = ["experiment=optuna", "hydra.sweeper.n_trials=2", "name=x"]
    done = run("train", *RECIPE, *trials)
    assert done.status == 0, done.err
    assert len(compared(tmp_path / "runs" / "x")) == 2
    best = yaml.safe_load((tmp_path / "runs" / "optimization_results.yaml").read_text())
    assert best["best_params"].keys() == {"training.learning_rate", "decoder.dropout"}
