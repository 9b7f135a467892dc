"""Every command of README and docs/ runs to its end, and so does the Python beside them.

Each in a folder with all that the pages speak of, in small: their own options, and behind them such
as make it quick. Those in `ELSEWHERE` are run by the tests that are named there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
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
    "f8k-onnx": "test_scripts.py",
    "actors=8": "test_cluster.py",
    "growth=true": "test_benchmark.py",
    "benchmark": "test_benchmark_command.py",
    "sweeper.n_trials": "test_sweep.py",
}
QUICK = [
    *(option for option in TINY if not option.startswith(("data.", "training.epochs"))),
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
    if script == "demo":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return [f"port={free.getsockname()[1]}", "examples=1"]
    if script == "compare":
        return [] if any(each.startswith("data=") for each in given) else DATA[:1]
    if script != "train" or any(each.startswith("resume=") for each in given):
        return []
    if any(each.startswith("start=") for each in given):
        return [each for each in QUICK if not each.startswith(MODEL)]
    return [*QUICK, *DATA, "encoder.weights=null"]


def fewer_jobs(argument: str) -> str:
    """Of a sweep's values the first two."""
    return re.sub(r"(=[^,\[{(]+,[^,]+),.*", r"\1", argument)


@pytest.fixture(scope="module")
def world(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data sets, pictures, tables and runs of the pages. Not to be written to."""
    folder = tmp_path_factory.mktemp("world")
    write_flickr8k(folder / "DIR")
    pictures = folder / "DIR" / "Flicker8k_Dataset"
    for name in ("photos", "coco", "val2014", "test2014"):
        shutil.copytree(pictures, folder / name)
    (folder / "shards").mkdir()
    with tarfile.open(folder / "shards" / "a.tar", "w") as tar:
        tar.add(pictures / "0_x.jpg", "0.jpg")
    shutil.copy(pictures / "0_x.jpg", folder / "photo.jpg")
    rows = [f'photos/{i}_x.jpg,"{WORDS[i % 4]}"' for i in range(10)]
    (folder / "mine.csv").write_text("\n".join(["image,caption", *rows]))
    for place, below in ((".", ""), ("DIR", "Flicker8k_Dataset")):
        entries = [
            {
                "filepath": below,
                "filename": f"{i}_x.jpg",
                "split": "val" if i > 6 else "train",
                "sentences": [{"raw": WORDS[i % 4]}],
            }
            for i in range(10)
        ]
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
def test_a_command_runs(call: Call, here: Path, monkeypatch: pytest.MonkeyPatch):
    script, *given = call
    if script == "demo":
        gradio = pytest.importorskip("gradio")
        monkeypatch.setattr(gradio.Blocks, "block_thread", gradio.Blocks.close)
    for name in (each[5:] for each in given if each.startswith("name=")):
        shutil.rmtree(here / "runs" / name, ignore_errors=True)
    if "--multirun" in given:
        given = [fewer_jobs(each) for each in given]
    done = run_script(script, *given, *behind(call))
    assert done.status == 0, done.err


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_python_of_a_page_runs(page: Path, here: Path):
    names: dict[str, object] = {}
    for snippet in PYTHON.findall(page.read_text(encoding="utf-8")):
        exec(snippet, names)
