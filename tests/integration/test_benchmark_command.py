"""benchmark.py from its command line to its file, in seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from running import Ran

from captioner.benchmark import suite
from captioner.benchmark.suite import Report, Row
from captioner.benchmark.timing import Limits, peak_resident
from captioner.config import BenchmarkOptions, SizeOptions


def test_a_quick_benchmark_prints_a_table_and_writes_it(run: Callable[..., Ran], tmp_path: Path):
    done = run("benchmark", "sizes=quick", "repeats=1", "device=cpu", "out=here")
    assert done.status == 0, done.err
    content = json.loads((tmp_path / "here" / "benchmark.json").read_text())
    assert content["limits"]["products"]["float32"] > 0 < content["limits"]["bandwidth"]
    assert "here/benchmark.json" in done.out
    for row in content["rows"]:
        assert row["name"].split()[0] in done.out
    exported, *size = (row for row in content["rows"] if row["contestant"] == "onnx")
    if exported["value"] is not None:  # onnxscript and onnxruntime are there
        assert exported["note"].endswith("captions the same") and exported["ratio"]["median"] > 0
    assert bool(size) == (exported["value"] is not None)
    memory = {row["name"]: row for row in content["rows"] if row["name"].startswith("memory of")}
    epoch, search = "an epoch: 60 images beyond 20", "a search, width 4: 10 images beyond 5"
    assert list(memory) == [f"memory of {epoch}", f"memory of {search}"]
    for row in memory.values():
        assert (row["value"] is None) == (peak_resident() is None)


def test_a_dash_asks_for_json_on_standard_output_and_nothing_else(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    report = Report({"name": "a machine"}, Limits({}, 1.0), SizeOptions(), [Row("a", "b", "c")])
    monkeypatch.setattr(suite, "benchmark", lambda options: report)
    done = run("benchmark", "out=-")
    assert json.loads(done.out)["machine"] == {"name": "a machine"}
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_is_named(run: Callable[..., Ran]):
    done = run("benchmark", "sizes=quick", "repeats=1", "images=nowhere")
    assert "no image file or folder 'nowhere'" in done.mistake
    assert "no device 'gpu' here" in run("benchmark", "device=gpu").mistake
    assert "sizes.width is 0" in run("benchmark", "sizes.width=0").mistake
    assert "out= must be a folder" in run("benchmark", "growth=true", "out=-").mistake


@pytest.mark.parametrize(("choice", "pixels"), [("sizes=quick", 48), ("encoder=tiny", 64)])
def test_an_encoder_keeps_the_size_of_its_pictures(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, choice: str, pixels: int
):
    seen = []

    def noted(options: BenchmarkOptions) -> Report:
        seen.append(options.encoder.image_size)
        return Report({}, Limits({}, 1.0), SizeOptions(), [])

    monkeypatch.setattr(suite, "benchmark", noted)
    assert run("benchmark", choice, "out=-").status == 0
    assert seen == [pixels]
