"""A comparison, printed for people and written as Markdown, CSV and a plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from captioner.build import build_collection
from captioner.comparison import Cell, Comparison, Entry, Estimate, compare, find_entries
from captioner.config import CompareOptions
from captioner.files import write_atomically
from captioner.report import report_problems, report_skipped
from captioner.visualize.dots import Dot, save_dots


def side_by_side(options: CompareOptions) -> None:
    """Compares what the options name, prints the table, and writes it into `options.out`.

    Where that is `-` it prints comparison.csv and nothing else.

    Raises ValueError as `find_entries`, `build_collection` and `compare` do.
    """
    data = options.data
    entries = find_entries(options.captions, data.split)
    collection = build_collection(data)
    report_problems(collection)
    comparison = compare(
        entries,
        collection.split(data.split, data.limit),
        options.metrics,
        collection.captions("train"),
    )
    report_skipped(comparison.skipped)
    if options.out == "-":
        print(_csv(comparison), end="")
        return
    written = write_comparison(comparison, Path(options.out))
    print_comparison(comparison)
    print("written:", *written)


def print_comparison(comparison: Comparison) -> None:
    """A table on stdout, metric by metric."""
    table = Table(title=f"{comparison.images} images; p of a paired bootstrap")
    for heading in ("metric", "captions"):
        table.add_column(heading, overflow="fold")  # what sets a sweep's job apart may come last
    for heading in ("value", "95% interval", "difference", "p"):
        table.add_column(heading, justify="right")
    for metric in _shown(comparison):
        for number, (entry, cell) in enumerate(_cells(comparison, metric)):
            score, difference = cell.score, cell.difference
            table.add_row(
                metric if number == 0 else "",
                entry.name,
                f"{score.value:.2f}",
                _interval(score),
                "" if difference is None else f"{difference.value:+.2f}",
                "" if cell.p is None else f"{cell.p:.3f}",
                end_section=number == len(comparison.entries) - 1,
            )
    Console().print(table)


def write_comparison(comparison: Comparison, out: Path) -> list[Path]:
    """comparison.md, .csv (a row per entry and metric) and .png; returns their paths."""
    paths = [out / f"comparison{suffix}" for suffix in (".md", ".csv", ".png")]
    write_atomically(paths[0], _markdown(comparison))
    write_atomically(paths[1], _csv(comparison))
    panels = {
        metric: [_dot(cells.get(metric)) for cells in comparison.cells]
        for metric in _shown(comparison)
    }
    save_dots([entry.name for entry in comparison.entries], panels, paths[2])
    return paths


def _shown(comparison: Comparison) -> list[str]:
    return [metric for metric in comparison.metrics if not metric.endswith("-no-bp")]


def _cells(comparison: Comparison, metric: str) -> Iterator[tuple[Entry, Cell]]:
    for entry, cells in zip(comparison.entries, comparison.cells, strict=True):
        if metric in cells:
            yield entry, cells[metric]


def _dot(cell: Cell | None) -> Dot | None:
    return cell and Dot(*cell.score, differs=None if cell.p is None else cell.p < 0.05)


def _interval(estimate: Estimate) -> str:
    return "" if estimate.low is None else f"{estimate.low:.2f}–{estimate.high:.2f}"


def _csv(comparison: Comparison) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    ends = ("", "-low", "-high")
    differences = [f"difference{end}" for end in ends]
    writer.writerow(["captions", "metric", "value", "low", "high", *differences, "p"])
    for metric in comparison.metrics:
        for entry, cell in _cells(comparison, metric):
            difference = cell.difference or (None, None, None)
            writer.writerow([entry.name, metric, *cell.score, *difference, cell.p])
    for entry in comparison.entries:
        if entry.run is not None:
            writer.writerow([entry.name, "training-seconds", entry.run.seconds, *[None] * 6])
    return text.getvalue()


def _markdown(comparison: Comparison) -> str:
    first, metrics = comparison.entries[0], _shown(comparison)
    about = (
        f"{comparison.images} images, {comparison.tokenizer}; 95% bootstrap intervals over images."
    )
    if len(comparison.entries) > 1:
        about += (
            f" Below: the difference from {first.name}, with p of a paired bootstrap, two-sided and"
            " not corrected for the number of comparisons."
        )
    scores = [
        [entry.name, *(_markdown_cell(cells.get(metric)) for metric in metrics)]
        for entry, cells in zip(comparison.entries, comparison.cells, strict=True)
    ]
    tables = [_markdown_table(["captions", *metrics], scores)]
    runs = [(entry.name, entry.run) for entry in comparison.entries if entry.run is not None]
    if runs:
        unlike = f"options unlike those of {runs[0][0]}"
        rows = [
            [name, f"{run.seconds:.0f}", " ".join(f"`{o}`" for o in run.unlike(runs[0][1]))]
            for name, run in runs
        ]
        tables.append(_markdown_table(["run", "seconds of training", unlike], rows))
    return "\n\n".join(["# Comparison", about, *tables]) + "\n"


def _markdown_cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    text = f"{cell.score.value:.2f}"
    if cell.score.low is not None:
        text += f" ({_interval(cell.score)})"
    if cell.difference is not None:
        text += f"<br>{cell.difference.value:+.2f}"
    return text if cell.p is None else f"{text}, p {cell.p:.3f}"


def _markdown_table(heading: list[str], rows: list[list[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
