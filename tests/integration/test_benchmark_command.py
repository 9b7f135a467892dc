"""benchmark.py from its command line to its file, in seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from running import Ran

from captioner.benchmark.timing import peak_resident


def test_a_quick_benchmark_prints_a_table_and_writes_it(run: Callable[..., Ran], tmp_path: Path):
    done = run("benchmark", "sizes=quick", "repeats=1", "device=cpu", "out=here")
    assert done.status == 0, done.err
    content = json.loads((tmp_path / "here" / "benchmark.json").read_text())
    assert content["limits"]["products"]["float32"] > 0 < content["limits"]["bandwidth"]
    assert "here/benchmark.json" in done.out
    for row in content["rows"]:
        assert row["name"].split()[0] in done.out
    (memory,) = (row for row in content["rows"] if row["name"].startswith("memory for 60 images"))
    assert (memory["value"] is None) == (peak_resident() is None)


def test_a_mistake_is_named(run: Callable[..., Ran]):
    done = run("benchmark", "sizes=quick", "repeats=1", "images=nowhere")
    assert "no image file or folder 'nowhere'" in done.mistake
    assert "no device 'gpu' here" in run("benchmark", "device=gpu").mistake
    assert "sizes.width is 0" in run("benchmark", "sizes.width=0").mistake
