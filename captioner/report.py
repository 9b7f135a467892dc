"""Results, printed for people and written for programs."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from captioner.data.records import Collection
from captioner.evaluation import Evaluation
from captioner.files import write_atomically
from captioner.progress import console


def print_metrics(metrics: dict[str, float | int | str], title: str) -> None:
    """A table of scores with their 95% intervals, on stdout."""
    table = Table(title=f"{title}: {metrics['images']} images, width {metrics['width']}")
    for heading in ("metric", "value", "95% interval"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for name, value in metrics.items():
        if isinstance(value, float) and not name.endswith(("-low", "-high")):
            low, high = metrics.get(f"{name}-low"), metrics.get(f"{name}-high")
            spread = f"{low:.2f} – {high:.2f}" if low is not None else ""
            table.add_row(name, f"{value:.2f}", spread)
    Console().print(table)


def report_skipped(skipped: list[str]) -> None:
    """Says which metrics could not be had, and why."""
    for line in skipped:
        console.print(f"skipped: {line}", soft_wrap=True)


def report_problems(collection: Collection, most: int = 5) -> None:
    """Names the first few things that a reader left out, and counts the others."""
    for problem in collection.problems[:most]:
        console.print(f"left out: {problem}")
    if len(collection.problems) > most:
        console.print(f"left out: {len(collection.problems) - most} more")


def write_evaluation(evaluation: Evaluation, metrics: Path, captions: Path) -> None:
    """metrics as one flat JSON object, captions as COCO results."""
    write_atomically(metrics, json.dumps(evaluation.metrics, indent=1) + "\n")
    write_atomically(captions, json.dumps(evaluation.captions, indent=0, ensure_ascii=False) + "\n")
