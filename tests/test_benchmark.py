"""The benchmark: a table and a file with all rows, also of those that can't be measured."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from tiny import write_picture

from captioner.benchmark import suite
from captioner.benchmark.growth import LABELS
from captioner.benchmark.suite import Report, benchmark
from captioner.benchmark.table import print_report, write_json
from captioner.benchmark.timing import Limits
from captioner.benchmark.updates import captions_of_flickr8k_length
from captioner.config import BenchmarkOptions
from captioner.vocabulary import END, SPECIALS

QUICK = Path(__file__).parents[1] / "conf" / "sizes" / "quick.yaml"


def quick(**options) -> BenchmarkOptions:
    merged = OmegaConf.merge(BenchmarkOptions, OmegaConf.load(QUICK), options)
    return OmegaConf.to_object(merged)


@pytest.fixture(autouse=True, scope="module")
def _frozen() -> Iterator[None]:
    """The gauge collects garbage each time: nothing that was there before is looked through."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def report() -> Iterator[Report]:
    """Of a machine without bfloat16, whose limits and memory were known before.

    Without the packages of captioner[export]: test_benchmark_command.py exports.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "onnxscript", None)
        patch.setattr(suite, "has_fast_bf16", lambda device: False)
        patch.setattr(suite, "measure_limits", lambda *_: Limits({"float32": 1e11}, 1e10))
        patch.setattr(suite, "resident", lambda use, images, _: 1e9 + 1e6 * images)
        yield benchmark(quick(device="cpu"))


def test_each_contest_has_its_rows_and_all_agree(report: Report):
    by_name: dict[str, list] = {}
    for row in report.rows:
        by_name.setdefault(row.name, []).append(row)
    for name in ("beam search, width 3", "feature extraction", "files to captions, width 3"):
        textbook, ours, *_ = by_name[name]
        assert (textbook.contestant, ours.contestant) == ("textbook", "float32")
        assert textbook.ratio is None and ours.ratio.low <= ours.ratio.median <= ours.ratio.high
        assert 0 < ours.value.median < ours.limit
    (memory,) = by_name["memory of an epoch: 60 images beyond 20"]
    assert memory.value.median == 40
    (memory,) = by_name["memory of a search, width 4: 10 images beyond 5"]
    assert memory.value.median == 5
    assert by_name["beam search, width 3"][1].note == "4 of 4 captions the same"
    assert by_name["files to captions, width 3"][1].note == "4 of 4 captions the same"
    *_, half, exported = by_name["files to captions, width 3"]
    assert [each.contestant for each in (half, exported)] == ["bfloat16", "onnx"]
    assert half.value is None and exported.value is None
    (size,) = by_name["model on the disk"]
    assert size.contestant == "float32" and size.value.median > 0
    *_, difference = by_name["training step"][1].note.split()
    assert float(difference) < 1e-5


def test_half_precision_is_timed_where_the_machine_is_fast_in_it(monkeypatch: pytest.MonkeyPatch):
    limits = Limits({"float32": 1e11, "bfloat16": 2e11}, 1e13)  # not the copies
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setattr(suite, "has_fast_bf16", lambda device: True)
    monkeypatch.setattr(suite, "measure_limits", lambda *_: limits)
    monkeypatch.setattr(suite, "resident", lambda *_: 1e9)
    rows = [row for row in benchmark(quick(device="cpu", repeats=1)).rows if row.unit != "MB"]
    full, half = (
        [row for row in rows if row.contestant == precision]
        for precision in ("float32", "bfloat16")
    )
    assert len(full) == 4 and [row.name for row in half] == [row.name for row in full]
    for one, other in zip(full, half, strict=True):
        assert other.value.median > 0 < other.ratio.median and other.limit > one.limit
    training, search, features, files = (row.note for row in half)
    assert 0 < float(training.split()[-1]) < 0.01 and float(features.split()[-1]) > 0
    assert search.endswith("of 4 captions the same") and files.endswith("of 4 captions the same")


def test_what_is_not_measured_says_so(report: Report, tmp_path: Path, capsys):
    unmeasured = [(row.name, row.contestant) for row in report.rows if row.value is None]
    assert unmeasured[0] == ("training step", "bfloat16")
    assert unmeasured[-1] == ("all this on a GPU", "")
    print_report(report)
    printed = capsys.readouterr().out
    assert printed.count("not measured") == len(unmeasured)
    assert "textbook" in printed and "captions/s" in printed
    content = json.loads(write_json(report, tmp_path).read_text())
    assert [row["name"] for row in content["rows"]] == [row.name for row in report.rows]
    first, last = content["rows"][0], content["rows"][-1]
    assert first["value"]["median"] > 0 and last["value"] is None
    assert content["sizes"]["vocabulary"] == 30 and content["machine"]["device"] == "cpu"


def test_growth_draws_a_plot_for_each_size(tmp_path: Path):
    options = quick(out=str(tmp_path), repeats=1)
    curves = suite.grow(options, torch.device("cpu"))
    assert {curve.size for curve in curves} == set(vars(options.grow)) == set(LABELS)
    for curve in curves:
        assert curve.values == getattr(options.grow, curve.size)
        assert len(curve.milliseconds) == len(curve.values) and min(curve.milliseconds) > 0
        with Image.open(tmp_path / f"growth-{curve.size}.png") as picture:
            assert picture.size > (200, 200)
    assert len(curves) == 8


def test_given_pictures_are_taken_in_place_of_scenes(tmp_path: Path):
    paths = [write_picture(tmp_path / f"{name}.png") for name in "abc"]
    with suite._pictures(str(tmp_path), 2) as found:
        assert found == paths[:2]
    with suite._pictures(None, 2) as found:
        assert [Image.open(path).size for path in found] == [suite.PICTURE] * 2
    assert not found[0].exists()


def test_captions_are_as_long_as_flickr8ks():
    captions = captions_of_flickr8k_length(4000, vocabulary=50)
    lengths = torch.tensor([len(ids) - 1 for ids in captions], dtype=torch.float)
    assert abs(lengths.mean() - 10.79) < 0.3 and abs(lengths.std() - 3.75) < 0.3
    assert all(ids[-1] == END and min(ids[:-1]) >= len(SPECIALS) for ids in captions)
    assert max(max(ids) for ids in captions) < 50
