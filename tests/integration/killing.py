"""Kills caching, training, evaluation and captioning at random moments, and starts them again.

    python tests/integration/killing.py FOLDER 200 [SEED]

in a FOLDER that does not exist yet kills two hundred times. Programs are forked from this one, in
which all is imported, so that kills fall on their work and not on their imports. Ends with a JSON
line of what was done, or with an AssertionError.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import runpy
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

import captioner.run  # noqa: F401  (what scripts import later is here already)
from captioner.checkpoint import open_checkpoint

ROOT = Path(__file__).parents[2]
PICTURES = 45
WORDS = ("red", "green", "blue", "dog", "cat", "bird", "on", "under", "table", "grass")
TRAIN = (
    *("data=csv", "data.file=table.csv", "data.min_count=1", "encoder.image_size=32"),
    *("encoder=tiny", "encoder.fine_tune_from=null", "decoder.hidden=16", "decoder.embedding=12"),
    *("decoder.attention=8", "decoder.dropout=0.3", "training.batch_images=4", "training.epochs=2"),
    *(
        "training.save_every=2",
        "training.ema=0.9",
        "training.precision=fp32",
        "search.max_length=6",
    ),
    *("training.pictures=1", "device=cpu", "name=run"),
)
BEST = "runs/run/checkpoints/best"
EVALUATE = (f"checkpoint={BEST}", "out=scores", "device=cpu", "search.max_length=6")
CAPTION = (f"checkpoint={BEST}", "images=photos", "out=captions.jsonl", "device=cpu", "batch=4")


def write_data(folder: Path) -> None:
    numbers, rows = random.Random(0), ["image,caption,split"]
    (folder / "photos").mkdir(parents=True)
    for number in range(PICTURES):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.png")
        for _ in range(3):
            caption = " ".join(numbers.choices(WORDS, k=numbers.randint(2, 5)))
            rows.append(f"photos/{number}.png,{caption},{'val' if number % 9 == 0 else 'train'}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")


def start(folder: Path, script: str, arguments: tuple[str, ...]) -> int:
    """Runs a script in a child; returns the child's id."""
    if child := os.fork():
        return child
    status = 1
    try:
        os.chdir(folder)
        sys.argv = [f"{script}.py", *arguments]
        with open("said", "w") as said, contextlib.redirect_stdout(said):  # noqa: PTH123
            os.dup2(said.fileno(), 2)
            runpy.run_path(str(ROOT / "scripts" / f"{script}.py"), run_name="__main__")
        status = 0
    except SystemExit as leaving:
        status = leaving.code or 0
    finally:
        os._exit(status)


def run(folder: Path, script: str, arguments: tuple[str, ...], seconds: float) -> bool:
    """Whether a script came to its end before it was killed; any other end is an error."""
    child, stop = start(folder, script, arguments), time.monotonic() + seconds
    while time.monotonic() < stop:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            said = (folder / "said").read_text()
            assert os.waitstatus_to_exitcode(status) == 0, (script, arguments, said)
            return True
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def phase(folder: Path, stage: str) -> str:
    """The stage, or "cache" for as long as training has made no update."""
    updated = (folder / "runs/run/steps.jsonl").exists()
    return "cache" if stage == "train" and not updated else stage


def check_nothing_broken(folder: Path) -> None:
    """Whatever has its final name is whole."""
    for file in folder.rglob("*.json"):
        if not any(part.startswith(".") for part in file.relative_to(folder).parts):
            json.loads(file.read_text())
    for name in ("best", "last"):
        if (folder / "runs/run/checkpoints" / name).exists():
            open_checkpoint(folder / "runs/run/checkpoints" / name)
    if (folder / "captions.jsonl").exists():
        assert len((folder / "captions.jsonl").read_text().splitlines()) == PICTURES


def results(folder: Path, stage: str) -> dict[str, bytes | dict[str, torch.Tensor]]:
    """What a stage has to show, without what a clock measured."""
    if stage == "caption":
        return {"captions": (folder / "captions.jsonl").read_bytes()}
    if stage == "evaluate":
        files = ("metrics.json", "captions.json")
        return {name: (folder / "scores" / name).read_bytes() for name in files}
    run = folder / "runs" / "run"
    tensors = ("best/model", "last/model", "last/training")
    found = {name: load_file(run / f"checkpoints/{name}.safetensors") for name in tensors}
    for name in ("steps.jsonl", "evaluation/val.json", "evaluation/val-captions.json"):
        found[name] = (run / name).read_bytes()
    for file in (folder / "cache").glob("*/features.npy"):  # train's, and val's
        found[file.parent.name] = file.read_bytes()
    return found


def same(one: object, other: object) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def main(folder: Path, kills: int, seed: int) -> dict[str, object]:
    torch.set_num_threads(1)
    write_data(folder)
    stages = {"train": TRAIN, "evaluate": EVALUATE, "caption": CAPTION}
    # Of a stage's usual time: training goes on where it was, the others must get through at once.
    longest = {"cache": 0.3, "train": 0.6, "evaluate": 1.2, "caption": 1.2}
    wanted, usual = {}, {}
    for stage, arguments in stages.items():
        began = time.monotonic()
        assert run(folder, stage, arguments, 600), f"{stage} took too long"
        usual[stage] = time.monotonic() - began
        wanted[stage] = results(folder, stage)
    chance, killed, finished = random.Random(seed), Counter(), Counter()
    while killed.total() < kills:
        for name in ("runs", "cache", "scores", "captions.jsonl"):
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for stage, fresh in stages.items():
            patience = 1.0  # grows, so that a machine that became slower gets through as well
            while True:
                begun = stage == "train" and (folder / "runs/run/config.yaml").exists()
                arguments = ("resume=runs/run",) if begun else fresh
                limit = patience * longest[phase(folder, stage)] * usual[stage]
                if run(folder, stage, arguments, chance.uniform(0, limit)):
                    break
                killed[phase(folder, stage)] += 1
                patience *= 1.1
                check_nothing_broken(folder)
            finished[stage] += 1
            assert same(results(folder, stage), wanted[stage]), f"{stage} gave something else"
        left = [str(path) for path in folder.rglob("*partial*")]
        assert not left, f"left lying about: {left}"
    return {"killed": killed, "finished": finished, "usual_seconds": usual, "seed": seed}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int([*sys.argv, 0][3]))))
