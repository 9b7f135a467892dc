"""Captions side by side: the same scores as alone, paired differences, and names for all."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from helpers import sentences
from PIL import Image

from captioner.comparison import Comparison, compare, find_entries
from captioner.comparison_report import print_comparison, write_comparison
from captioner.config import MetricOptions
from captioner.data.records import Record
from captioner.scoring import score

HYPOTHESES, REFERENCES = sentences(0, n=80)
RECORDS = [
    Record(str(i), Path(f"{i}.jpg"), [" ".join(words) for words in several], "val")
    for i, several in enumerate(REFERENCES)
]
GOOD = [record.captions[0] for record in RECORDS]
FAIR = [" ".join(words) for words in HYPOTHESES]
ALMOST = [*GOOD[:-1], "z"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, captions: list[str], **reported: float | str) -> None:
    """Captions of RECORDS, and a metrics.json beside them where something is reported."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([{"image_id": i, "caption": c} for i, c in enumerate(captions)]))
    if reported:
        name = (
            "metrics.json" if file.name == "captions.json" else file.name.replace("-captions", "")
        )
        file.with_name(name).write_text(json.dumps(reported))


def write_run(path: str, captions: list[str], seconds: float, beta: str) -> None:
    write(f"{path}/evaluation/val-captions.json", captions)
    lines = [{"step": 1, "seconds": 1.0}, {"step": 2, "seconds": seconds}]
    whole = "".join(json.dumps(line) + "\n" for line in lines)
    Path(path, "log.jsonl").write_text(whole + '{"step": 3, "sec')
    options = f"name: {path}\ndata:\n  cache: {path}\n  limit: null\ndecoder:\n  beta: {beta}\n"
    Path(path, "config.yaml").write_text(options)


def compared(*given: str) -> Comparison:
    return compare(find_entries(given, "val"), RECORDS, MetricOptions())


def test_every_entry_scores_as_it_does_alone():
    write("good.json", GOOD)
    write("fair.json", FAIR)
    comparison = compared("good.json", "fair.json")
    assert [entry.name for entry in comparison.entries] == ["good", "fair"]
    for captions, cells in zip((GOOD, FAIR), comparison.cells, strict=True):
        alone = score(captions, RECORDS, MetricOptions()).with_intervals()
        for metric, cell in cells.items():
            ends = (alone.get(f"{metric}-low"), alone.get(f"{metric}-high"))
            assert cell.score == (alone[metric], *ends)
    assert {"bleu-4", "bleu-4-no-bp", "cider", "rouge-l", "distinct-1"} <= set(comparison.metrics)
    assert comparison.images == 80 and comparison.skipped == []


def test_differences_are_from_the_first_and_paired():
    """One worse caption of 80 moves both scores' intervals together, but not their difference."""
    for name, captions in (("good", GOOD), ("almost", ALMOST), ("fair", FAIR)):
        write(f"{name}.json", captions)
    first, almost, fair = compared("good.json", "almost.json", "fair.json").cells
    assert all(cell.difference is None and cell.p is None for cell in first.values())
    for metric in ("rouge-l", "cider", "bleu-1"):
        a, b, c = (cells[metric] for cells in (first, almost, fair))
        assert b.difference.value == pytest.approx(b.score.value - a.score.value)
        assert b.difference.low < b.difference.value < b.difference.high <= 0
        assert c.difference.value < c.difference.high < 0 and c.p == pytest.approx(2 / 1001)
    rouge = almost["rouge-l"]
    assert rouge.p > 0.5  # a third of resamples lack the one image that differs
    assert (almost["distinct-1"].difference.low, almost["distinct-1"].p) == (None, None)


def test_the_same_captions_do_not_differ():
    write("a/captions.json", FAIR)
    write("b/captions.json", FAIR)
    _, cells = compared("a", "b").cells
    tested = [cell for cell in cells.values() if cell.p is not None]
    assert len(tested) == 11
    assert all(cell.p == 1 and cell.difference == (0, 0, 0) for cell in tested)


def test_equals_differ_about_as_seldom_as_they_should():
    """Of captioners that are equally good on average, 1 in 20 differs at p < 0.05."""
    random, found = np.random.default_rng(0), []
    for trial in range(40):
        swap = random.random(len(RECORDS)) < 0.5
        for name, choose in (("a", swap), ("b", ~swap)):
            captions = np.where(choose, FAIR, FAIR[1:] + FAIR[:1]).tolist()
            write(f"{trial}-{name}.json", captions)
        found.append(compared(f"{trial}-a.json", f"{trial}-b.json").cells[1]["rouge-l"].p)
    assert np.mean(np.array(found) < 0.05) <= 0.15
    assert 0.3 < np.mean(np.array(found) < 0.5) < 0.7


# Names and places.


def test_entries_are_files_folders_and_runs():
    write("mine.json", GOOD)
    write("scores/captions.json", GOOD, images=80)
    write_run("runs/x", GOOD, 60, "none")
    write("runs/x/test/captions.json", GOOD)
    entries = find_entries(["mine.json", "scores", "runs/x", "runs/x/test", "b=scores"], "val")
    assert [entry.name for entry in entries] == ["mine", "scores", "x", "test", "b"]
    assert [str(entry.file) for entry in entries] == [
        "mine.json",
        "scores/captions.json",
        "runs/x/evaluation/val-captions.json",
        "runs/x/test/captions.json",
        "scores/captions.json",
    ]
    assert [entry.run and entry.run.seconds for entry in entries] == [None, None, 60, 60, None]


def test_a_sweep_s_folders_have_their_own_names():
    for job in ("decoder.beta=none", "decoder.beta=scalar"):
        write_run(f"runs/sweep/{job}", GOOD, 5, job.split("=")[1])
    given = ["runs/sweep/decoder.beta=none", "s=runs/sweep/decoder.beta=scalar"]
    assert [entry.name for entry in find_entries(given, "val")] == ["decoder.beta=none", "s"]


def test_entries_with_one_name_are_told_apart_by_their_paths():
    for name in ("a", "b"):
        write(f"{name}/out/captions.json", GOOD)
    assert [each.name for each in find_entries(["a/out", "b/out"], "val")] == ["a/out", "b/out"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["nowhere"], r"captions=nowhere: no such file, nor a folder with captions\.json or eval"),
        (["x=nowhere"], "captions=x=nowhere: no such file"),
        (["empty"], "captions=empty: no such file"),
        (["a.json", "a.json"], r"has a\.json twice; name=path"),
        (["x=a.json", "x=b.json"], None),
    ],
)
def test_mistakes_are_named(given: list[str], message: str | None):
    Path("empty").mkdir()
    write("a.json", GOOD)
    write("b.json", GOOD)
    if message is None:
        assert [entry.name for entry in find_entries(given, "val")] == given
    else:
        with pytest.raises(ValueError, match=message):
            find_entries(given, "val")


# What was reported with the captions.


def test_what_all_report_of_these_images_is_taken_over():
    tokenizer = score(GOOD, RECORDS, MetricOptions()).facts["tokenizer"]
    same = {"images": 80, "tokenizer": tokenizer, "width": 3}
    looks = {"pointing": 60.0, "pointing-low": 55.0, "pointing-high": 65.0}
    write("a/captions.json", GOOD, **same, **looks, cider=-1.0, entropy=1.5)
    write("b/captions.json", FAIR, **same, **{**looks, "pointing": 61.0}, cider=-1.0)
    a, b = compared("a", "b").cells
    assert a["pointing"] == ((60, 55, 65), None, None)
    assert b["pointing"].score.value == 61
    assert a["cider"].score.value > 0 and "entropy" not in a and "width" not in a
    write("c/captions.json", FAIR, **{**same, "images": 79}, **looks)
    assert "pointing" not in compared("a", "c").cells[0]
    write("d.json", FAIR)
    assert "pointing" not in compared("a", "d.json").cells[0]


# What is written.


def test_tables_and_a_plot_are_written(capsys: pytest.CaptureFixture):
    write_run("runs/soft", GOOD, 61.4, "scalar")
    write_run("runs/|$x$", FAIR, 59.6, "none")
    comparison = compared("runs/soft", "runs/|$x$")
    paths = write_comparison(comparison, Path("new/out"))
    assert [path.name for path in paths] == [f"comparison.{end}" for end in ("md", "csv", "png")]
    cell = comparison.cells[1]["cider"]
    expected = (
        f"{cell.score.value:.2f} ({cell.score.low:.2f}–{cell.score.high:.2f})"
        f"<br>{cell.difference.value:+.2f}, p {cell.p:.3f}"
    )
    text = paths[0].read_text()
    assert f" | {expected} | " in text and comparison.tokenizer in text
    assert "| soft | 61 |  |\n| \\|$x$ | 60 | `decoder.beta=none` |\n" in text
    columns = {line.replace("\\|", "").count("|") for line in text.splitlines() if "---" in line}
    assert columns == {len(comparison.metrics) - 4 + 2, 4}  # scores but the four -no-bp; runs
    with paths[1].open(newline="") as file:
        rows = {(row["captions"], row["metric"]): row for row in csv.DictReader(file)}
    assert len(rows) == 2 * len(comparison.metrics) + 2
    row = rows["|$x$", "cider"]
    numbers = [float(row[n]) for n in ("value", "low", "high", "difference", "p")]
    assert numbers == [*cell.score, cell.difference.value, cell.p]
    assert rows["soft", "cider"]["p"] == ""
    assert float(rows["soft", "training-seconds"]["value"]) == 61.4
    assert Image.open(paths[2]).size[0] > 1000
    print_comparison(comparison)
    shown = capsys.readouterr().out
    assert "cider" in shown and f"{cell.difference.value:+.2f}" in shown and "no-bp" not in shown


def test_a_single_entry_is_scored_without_differences(capsys: pytest.CaptureFixture):
    write("mine.json", GOOD)
    comparison = compared("mine.json")
    paths = write_comparison(comparison, Path("out"))
    text = paths[0].read_text()
    assert "difference" not in text and "| mine |" in text and "runs" not in text
    print_comparison(comparison)
    assert "mine" in capsys.readouterr().out
