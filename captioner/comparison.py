"""Captions of the same images by several captioners, side by side, with paired tests."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import DictConfig, OmegaConf

from captioner.config import MetricOptions
from captioner.data.readers.files import json_of
from captioner.data.records import Record, unique
from captioner.data.results import read_results
from captioner.metrics.bootstrap import interval, p_value
from captioner.metrics.metric import resampled
from captioner.scoring import Facts, Scores, score

# Options that say where a run is and not what is learnt.
PLACES = {"name", "runs", "resume", "device", "debug", "data.cache", "data.workers"}


@dataclass
class Run:
    """What a training run's folder tells."""

    folder: Path
    seconds: float  # of training and validation
    options: dict[str, Any]  # by their names on the command line: `training.epochs`

    def unlike(self, other: Run) -> list[str]:
        """The options, `name=value`, that set it apart from another run."""
        return [
            f"{name}={'null' if value is None else str(value)}"
            for name, value in self.options.items()
            if name not in PLACES and value != other.options.get(name)
        ]


@dataclass
class Entry:
    """One captioner in a comparison."""

    name: str
    file: Path  # its captions, as COCO results
    reported: Facts  # the metrics.json that was written with them; empty without one
    run: Run | None  # that the file lies in


class Estimate(NamedTuple):
    """A score, or a difference of two, with its 95% interval where it has one."""

    value: float
    low: float | None = None
    high: float | None = None


class Cell(NamedTuple):
    """An entry's score by one metric, and its difference from that of the first entry."""

    score: Estimate
    difference: Estimate | None = None
    p: float | None = None  # two-sided, of a paired bootstrap over images


@dataclass
class Comparison:
    """Each entry's cells by metric; the first entry is what the others are compared with."""

    entries: list[Entry]
    cells: list[dict[str, Cell]]
    tokenizer: str
    images: int
    skipped: list[str]  # a line for each metric that can't be had

    @property
    def metrics(self) -> list[str]:
        return unique(metric for cells in self.cells for metric in cells)


# Which captions.


def find_entries(given: Sequence[str], split: str) -> list[Entry]:
    """Entries from what the command line names: each a path, or `name=path`.

    A path is a file of COCO results, a folder that evaluate.py wrote, or a run's, whose captions
    of `split` are taken. Without a name it is the run's, or else the folder's or the file's.
    Raises ValueError where there is nothing of the kind, or two have the same name.
    """
    entries = [_find_entry(text, split) for text in given]
    counts = Counter(entry.name for entry in entries)
    for entry, text in zip(entries, given, strict=True):
        if counts[entry.name] > 1:
            entry.name = text
    counts = Counter(entry.name for entry in entries)
    if len(counts) < len(entries):
        twice = counts.most_common(1)[0][0]
        raise ValueError(f"captions= has {twice} twice; name=path gives one another name")
    return entries


def _find_entry(text: str, split: str) -> Entry:
    name, equals, path = text.partition("=")
    if not equals or Path(text).exists():  # the folder of a sweep's job has an = in its name
        name, path = "", text
    inside = ("captions.json", f"evaluation/{split}-captions.json")
    places = [Path(path), *(Path(path, each) for each in inside)]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise ValueError(f"captions={text}: no such file, nor a folder with {' or '.join(inside)}")
    run = _read_run(file)
    derived = file.absolute().parent.name if file.name == "captions.json" else file.stem
    if run is not None and file.absolute().parent == run.folder / "evaluation":
        derived = run.folder.name
    return Entry(name or derived, file, _reported(file), run)


def _reported(file: Path) -> Facts:
    """What was written with captions: in `metrics.json`, or in a run's `<split>.json`."""
    name = "metrics.json" if file.name == "captions.json" else file.name.replace("-captions", "")
    beside = file.with_name(name)
    content = json_of(beside) if beside != file and beside.is_file() else {}
    return content if isinstance(content, dict) else {}


def _read_run(file: Path) -> Run | None:
    """The run that a file lies in."""
    for folder in file.absolute().parents:
        log, options = folder / "log.jsonl", folder / "config.yaml"
        if log.is_file() and options.is_file():
            whole = log.read_text(encoding="utf-8").split("\n")[:-1]  # not one being written
            seconds = json.loads(whole[-1])["seconds"] if whole else 0.0
            return Run(folder, seconds, dict(_flat(OmegaConf.load(options))))
    return None


def _flat(options: DictConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, DictConfig):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


# How they compare.


class _Scored(NamedTuple):
    values: dict[str, float]
    draws: dict[str, np.ndarray]  # (R,) in the resamples, of what can be resampled

    def __sub__(self, other: _Scored) -> _Scored:
        """The differences of what both have."""
        return _Scored(
            *(
                {name: mine[name] - theirs[name] for name in mine if name in theirs}
                for mine, theirs in zip(self, other, strict=True)
            )
        )

    def estimate(self, name: str) -> Estimate | None:
        if name not in self.values:
            return None
        ends = map(float, interval(self.draws[name])) if name in self.draws else ()
        return Estimate(self.values[name], *ends)


def compare(
    entries: Sequence[Entry],
    records: Sequence[Record],
    options: MetricOptions,
    training: Sequence[str] = (),
) -> Comparison:
    """Scores every entry on the same images, and in the same resamples of them.

    Scores that all entries reported with their captions and that captions alone can't give, such
    as where attention was, are taken over without a test.
    Raises ValueError as `read_results` and `score` do.
    """
    captions = [read_results(entry.file, records) for entry in entries]
    scores = [score(each, records, options, training) for each in captions]
    scored = [_scored(each) for each in scores]
    cells = [_cells(each, scored[0]) for each in scored]
    facts = scores[0].facts
    reported = _only_reported(entries, scores[0])
    for row, entry in zip(cells, entries, strict=True):
        row |= {name: _reported_cell(name, entry) for name in reported}
    skipped = unique(line for each in scores for line in each.skipped)
    return Comparison(list(entries), cells, facts["tokenizer"], facts["images"], skipped)


def _scored(scores: Scores) -> _Scored:
    values = {name: v for name, v in scores.estimates().items() if isinstance(v, float)}
    return _Scored(values, resampled(scores.metrics))


def _cells(mine: _Scored, baseline: _Scored) -> dict[str, Cell]:
    if mine is baseline:
        return {name: Cell(mine.estimate(name)) for name in mine.values}
    apart = mine - baseline
    p = {name: float(p_value(draws)) for name, draws in apart.draws.items()}
    return {n: Cell(mine.estimate(n), apart.estimate(n), p.get(n)) for n in mine.values}


def _only_reported(entries: Sequence[Entry], scores: Scores) -> list[str]:
    """Names of what all entries report, of these images in these words, and `scores` lacks."""
    same, known = {name: scores.facts[name] for name in ("tokenizer", "images")}, scores.estimates()
    reports = [entry.reported for entry in entries]
    if not all(same.items() <= report.items() for report in reports):
        return []
    return [
        name
        for name in reports[0]
        if all(isinstance(report.get(name), float) for report in reports)
        and name not in known
        and not name.endswith(("-low", "-high"))
    ]


def _reported_cell(name: str, entry: Entry) -> Cell:
    ends = (entry.reported.get(f"{name}{end}") for end in ("-low", "-high"))
    return Cell(Estimate(entry.reported[name], *ends))
