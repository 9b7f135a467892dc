"""A benchmark, printed for people and written for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from captioner.benchmark.suite import Report, Row
from captioner.benchmark.timing import Spread
from captioner.files import write_atomically

NOT_MEASURED = "not measured"


def print_report(report: Report) -> None:
    """The table, on stdout."""
    machine, limits = report.machine, report.limits
    products = ", ".join(
        f"{rate / 1e9:.0f} GFLOP/s {name}" for name, rate in limits.products.items()
    )
    table = Table(
        title=f"{machine['name']}, {machine['threads']} threads, torch {machine['torch']}",
        caption=f"limits: products {products}; copies {limits.bandwidth / 1e9:.0f} GB/s. "
        "Medians, with quartiles in brackets.",
        expand=False,
    )
    for heading in ("measured", "by", "rate", "× textbook", "limit", "of it", "MB"):
        table.add_column(heading, justify="left" if heading in ("measured", "by") else "right")
    for name, rows in groupby(report.rows, lambda row: f"{row.name}, {row.unit}".strip(", ")):
        for number, row in enumerate(rows):
            table.add_row("" if number else name, *_cells(row))
        table.add_section()
    console = Console()
    console.print(table)
    for row in report.rows:
        if row.note:
            console.print(f"{row.name}, {row.contestant}: {row.note}", soft_wrap=True)


def _cells(row: Row) -> list[str]:
    if row.value is None:
        return [row.contestant, NOT_MEASURED]
    ratio = "" if row.ratio is None else _spread(row.ratio)
    cells = [row.contestant, _spread(row.value), ratio]
    if row.limit is None:
        return cells
    share = f"{100 * row.value.median / row.limit:.0f}%"
    return [*cells, _digits(row.limit), share, _megabytes(row.memory)]


def _megabytes(count: float | None) -> str:
    return "" if count is None else f"{count / 1e6:.0f}"


def _spread(spread: Spread) -> str:
    """Three digits each, as 12.3 (11.9–12.6); a single measurement stands alone."""
    text = _digits(spread.median)
    return (
        text
        if spread.low == spread.high
        else f"{text} ({_digits(spread.low)}–{_digits(spread.high)})"
    )


def _digits(value: float) -> str:
    places = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{places}f}"


def as_json(report: Report) -> str:
    """Rates, ratios and limits as they are, in SI units."""
    content = asdict(report)
    for row, measured in zip(content["rows"], report.rows, strict=True):
        for name in ("value", "ratio"):
            spread = getattr(measured, name)
            row[name] = spread and spread._asdict()
    return json.dumps(content, indent=1, ensure_ascii=False)


def write_json(report: Report, out: str | Path) -> Path:
    """`benchmark.json` in the folder."""
    path = Path(out) / "benchmark.json"
    write_atomically(path, as_json(report) + "\n")
    return path
