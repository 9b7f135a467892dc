"""Every command of README and docs/ runs to its end, and so does the Python beside them.

Each in a folder with all that the pages speak of, in small: their own options, and behind them such
as make it quick. Those in `ELSEWHERE` are run by the tests that are named there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
from pathlib import Path

import pytest
from running import ROOT, TINY, WORDS, Trained, run_script, write_flickr8k
from test_docs import PYTHON
from test_readme import CALLS, PAGES

Call = tuple[str, ...]

FIRST = "name=f8k"  # which the fixture runs: others go on from there
ELSEWHERE = {  # a part of the command: where what it does is run
    "launcher=submitit_slurm": "nowhere: it needs a Slurm cluster",
    "metrics.java=true": "test_java.py",
    "f8k-onnx": "test_exported.py",
    "actors=8": "test_cluster.py",
    "data.entities=DIR": "test_entities.py and test_alignment.py, by parts",
    "growth=true": "test_benchmark.py",
    "benchmark": "test_benchmark_command.py",
    "demo": "test_demo.py",
    "sweeper.n_trials": "test_sweep.py",
}
QUICK = [
    *(o for o in TINY if not o.startswith(("data.", "training.epochs", "training.captions"))),
    *("encoder.image_size=64", "training.epochs=1"),
]
DATA = ["data.sizes={train:24,val:6,test:4,novel:4}", "data.limit=8", "data.min_count=1"]
MODEL = ("data", "encoder", "decoder")  # what start= brings


WITH_PYTHON = [
    page
    for page in PAGES
    if page.name not in ("index.md", "extend.md", "sharing.md")  # test_docs.py, test_exported.py
    and PYTHON.search(page.read_text(encoding="utf-8"))
]


def behind(call: Call) -> list[str]:
    """Options that make a command quick, where its page's do not forbid them."""
    script, *given = call
    if {"--help", "--cfg"} & {*given}:
        return []
    if script == "visualize":
        return ["search.max_length=4"]
    if script == "compare":
        return [] if any(each.startswith("data=") for each in given) else DATA[:1]
    if script != "train" or any(each.startswith("resume=") for each in given):
        return []
    if any(each.startswith("start=") for each in given):
        return [each for each in QUICK if not each.startswith(MODEL)]
    return [*QUICK, *DATA, "encoder.weights=null"]


def two_jobs(given: list[str]) -> list[str]:
    """A sweep's options with two values of the first that has several, and one of the others."""
    several = re.compile(r"([^,\[{(]+),([^,]+).*")
    swept = [place for place, each in enumerate(given) if several.fullmatch(each)]
    cut = {place: r"\1,\2" if place == swept[0] else r"\1" for place in swept}
    return [several.sub(cut.get(place, r"\g<0>"), each) for place, each in enumerate(given)]


@pytest.fixture(scope="module")
def world(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data sets, pictures, tables and runs of the pages. Not to be written to."""
    folder = tmp_path_factory.mktemp("world")
    write_flickr8k(folder / "DIR")
    pictures = folder / "coco"
    shutil.copytree(folder / "DIR" / "Flicker8k_Dataset", pictures)
    for name in ("photos", "val2014", "test2014"):
        (folder / name).mkdir()
        shutil.copy(pictures / "0_x.jpg", folder / name)
        shutil.copy(pictures / "1_x.jpg", folder / name)
    shutil.copytree(pictures, folder / "DIR", dirs_exist_ok=True)
    (folder / "shards").mkdir()
    with tarfile.open(folder / "shards" / "a.tar", "w") as tar:
        tar.add(pictures / "0_x.jpg", "0.jpg")
    shutil.copy(pictures / "0_x.jpg", folder / "photo.jpg")
    rows = [f'coco/{i}_x.jpg,"{WORDS[i % 4]}"' for i in range(10)]
    (folder / "mine.csv").write_text("\n".join(["image,caption", *rows]))
    entries = [
        {
            "filename": f"{i}_x.jpg",
            "split": "val" if i > 6 else "train",
            "sentences": [{"raw": each} for each in WORDS],
        }
        for i in range(10)
    ]
    for place in (".", "DIR"):
        (folder / place / "dataset_coco.json").write_text(json.dumps({"images": entries}))
    for name in ("shapes", "a", "b"):
        shutil.copytree(trained.folder, folder / "runs" / name)
    theirs = [{"image_id": f"{i}_x.jpg", "caption": WORDS[0]} for i in (7, 8)]
    (folder / "theirs.json").write_text(json.dumps(theirs))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (call,) = (call for call in CALLS if FIRST in call)
        done = run_script(*call, *behind(call))
        assert done.status == 0, done.err
    for name in ("mine", "f8k-tuned", "f8k-scst", "f8k-scst-1"):
        shutil.copytree(folder / "runs" / "f8k", folder / "runs" / name)
    shutil.copytree(folder / "runs" / "f8k" / "checkpoints" / "best", folder / "runs" / "f8k-soup")
    return folder


@pytest.fixture
def here(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, with all that is in the world."""
    shutil.copytree(world, tmp_path, copy_function=os.link, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_elsewhere(call: Call) -> bool:
    return any(part in argument for part in (*ELSEWHERE, FIRST) for argument in call)


@pytest.mark.parametrize("call", [c for c in CALLS if not run_elsewhere(c)], ids=" ".join)
def test_a_command_runs(call: Call, here: Path):
    script, *given = call
    for name in (each[5:] for each in given if each.startswith("name=")):
        shutil.rmtree(here / "runs" / name, ignore_errors=True)
    if script == "average":
        shutil.rmtree(given[-1].removeprefix("out="))
    if "--multirun" in given:
        given = two_jobs(given)
    done = run_script(script, *given, *behind(call))
    assert done.status == 0, done.err


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_python_of_a_page_runs(page: Path, here: Path):
    names: dict[str, object] = {}
    for snippet in PYTHON.findall(page.read_text(encoding="utf-8")):
        exec(snippet, names)
