"""What `--multirun` ends in: the jobs of the sweep side by side."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

SWEEP = "sweep"
"""The sweep's folder under `runs` where it has no name."""


class CompareJobs(Callback):
    """Hydra's hook around a sweep: writes comparison.md, .csv and .png into its folder.

    Of jobs that failed there is nothing to compare; of a folder that was there before, neither.
    """

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        self.before = set(_folder(config).glob("*"))

    def on_multirun_end(self, config: DictConfig, **_: object) -> None:
        """Prints the table too. Where captions can't be compared, such as of two data sets, why."""
        if os.environ.get("RANK", "0") != "0":
            return
        from captioner.checkpoint import load_options
        from captioner.comparison_report import side_by_side
        from captioner.config import CompareOptions
        from captioner.progress import console

        folder = _folder(config)
        scored = {path.parents[1] for path in folder.glob("*/evaluation/val-captions.json")}
        jobs = sorted(scored - self.before, key=lambda job: (job / "config.yaml").stat().st_mtime)
        if not jobs:
            return
        try:
            data = replace(load_options(jobs[0] / "config.yaml").data, split="val")
            side_by_side(CompareOptions([str(job) for job in jobs], out=str(folder), data=data))
        except ValueError as error:
            console.print(f"no comparison of the jobs: {error}", soft_wrap=True)


def _folder(config: DictConfig) -> Path:
    return Path(config.runs, config.name or SWEEP)
