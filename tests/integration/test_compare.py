"""evaluate.py with Java's metrics, and compare.py on runs, evaluations and captions of others."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from running import TINY, Ran, Trained

Run = Callable[..., Ran]
DATA = next(option for option in TINY if option.startswith("data."))


@pytest.fixture
def evaluated(trained: Trained, run: Run, tmp_path: Path) -> Path:
    """The folder of a greedy evaluation of the run's validation split."""
    options = ("search.strategy=greedy", "search.max_length=8", "device=cpu")
    done = run("evaluate", f"checkpoint={trained.checkpoint}", "out=greedy", *options)
    assert done.status == 0, done.err
    return tmp_path / "greedy"


def rows(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {(row["captions"], row["metric"]): row for row in csv.DictReader(file)}


def test_a_run_an_evaluation_and_a_file_side_by_side(trained, run, tmp_path, evaluated):
    captions = json.loads((evaluated / "captions.json").read_text())
    (tmp_path / "theirs.json").write_text(json.dumps(captions[::-1]))
    given = f'captions=[{trained.folder},{evaluated},"other=theirs.json"]'
    done = run("compare", given, DATA, "out=side-by-side")
    assert done.status == 0, done.err
    folder = tmp_path / "side-by-side"
    assert {path.name for path in folder.iterdir()} == {
        f"comparison{end}" for end in (".md", ".csv", ".png")
    }
    found = rows(folder / "comparison.csv")
    for name, file in (
        ("tiny", trained.folder / "evaluation" / "val.json"),
        ("greedy", evaluated / "metrics.json"),
    ):
        metrics = json.loads(file.read_text())
        for metric in ("bleu-4", "cider", "rouge-l", "true", "novel-captions", "distinct-2"):
            assert float(found[name, metric]["value"]) == metrics[metric]
            if metric != "distinct-2":
                assert float(found[name, metric]["low"]) == metrics[f"{metric}-low"]
    assert found["other", "cider"] == {**found["greedy", "cider"], "captions": "other"}
    log = (trained.folder / "log.jsonl").read_text().splitlines()
    assert float(found["tiny", "training-seconds"]["value"]) == json.loads(log[-1])["seconds"]
    assert ("greedy", "training-seconds") not in found
    assert "cider" in done.out and "side-by-side/comparison.png" in done.out


def test_what_attention_looked_at_is_taken_over_from_two_runs(trained, run, tmp_path):
    given = f'captions=["one={trained.folder}","two={trained.folder}"]'
    metrics = json.loads((trained.folder / "evaluation" / "val.json").read_text())
    assert run("compare", given, DATA, "out=.").status == 0
    found = rows(tmp_path / "comparison.csv")
    assert ("pointing" in metrics) == (("two", "pointing") in found)
    assert found["two", "bleu-1"]["p"] == "1.0"


def test_evaluate_without_java_says_what_it_skips(trained, run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    checkpoint = f"checkpoint={trained.checkpoint}"
    done = run("evaluate", checkpoint, "metrics.java=true", "out=.")
    assert done.status == 0
    assert "skipped: METEOR: needs Java" in done.err and "skipped: SPICE: needs Java" in done.err
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert "cider" in metrics and "meteor" not in metrics
    monkeypatch.setattr("captioner.evaluation.decode", lambda *_, **__: pytest.fail("decoded"))
    done = run("evaluate", checkpoint, "metrics.tokenizer=ptb")
    assert "PTB tokens: needs Java" in done.mistake


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("", "captions= is missing; give it a list"),
        ("captions=[nowhere]", "captions=nowhere: no such file"),
        ("captions=[FILE]", r"no caption of shapes-val-00001, .*no such image: 7"),
        ("captions=[FILE] data.split=dev", "no split 'dev'"),
        ("captions=[FILE] data=shapes", "data=shapes is a recipe .* say data.kind=shapes"),
        ("captions=[FILE] data=flickr8k", "data=flickr8k needs data.root"),
        ("captions=FILE", "captions=.*captions.json: .*list"),
        ("captions=[FILE] metrics.tokenizer=bert", "metrics.tokenizer is 'bert'.* words, ptb"),
        ("captions=[FILE] metric.java=true", "'metric.java'; did you mean metrics.java"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(run: Run, tmp_path: Path, arguments: str, named: str):
    entries = [{"image_id": each, "caption": "a"} for each in ("shapes-val-00000", 7)]
    (tmp_path / "captions.json").write_text(json.dumps(entries))
    given = arguments.replace("FILE", str(tmp_path / "captions.json")).split()
    done = run("compare", *given, DATA)
    assert re.search(named, done.mistake), done.err
    assert [path.name for path in tmp_path.iterdir()] == ["captions.json"]


def test_help_and_cfg_show_examples_and_options(run: Run):
    done = run("compare", "--help")
    assert done.status == 0 and "python scripts/compare.py captions=[" in done.out
    assert "tokenizer: words" in done.out and "split: val" in done.out
    done = run("compare", "--cfg", "job", "captions=[a,b]", "data=flickr8k", "data.root=DIR")
    assert done.status == 0 and "kind: flickr8k" in done.out and "- b" in done.out
