"""Scripts, run in this process where that is enough: a process of its own costs five seconds."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from tiny import write_picture

ROOT = Path(__file__).parents[2]
WORDS = ("A red dog runs .", "Two cats, asleep.", "The dog jumps!", "A cat sits on a mat .")
TINY = (
    "data.sizes={train:24,val:6,test:4,novel:4}",
    "encoder.image_size=32",
    "decoder.hidden=16",
    "decoder.embedding=12",
    "decoder.attention=8",
    "training.batch_images=8",
    "training.captions_together=null",
    "training.validate_every=1",
    "training.epochs=2",
    "training.precision=fp32",
    "data.workers=0",
    "training.pictures=0",
    "search.max_length=8",
    "device=cpu",
)
"""A recipe of a second."""


class Ran(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The one line that a user's mistake leaves."""
        assert (self.status, self.out) == (2, ""), self
        assert self.err.count("\n") == 1, self.err
        return self.err


class Trained(NamedTuple):
    folder: Path  # the run's
    out: str
    err: str

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "best"


def run_script(name: str, *arguments: object) -> Ran:
    """`python scripts/<name>.py arguments` in the present folder, without a new process."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / f"scripts/{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    out, err, status = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        patch.delenv("HYDRA_FULL_ERROR", raising=False)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                script.main()
            except SystemExit as leaving:
                status = leaving.code or 0
    return Ran(status, out.getvalue(), err.getvalue())


def run_process(*arguments: object, folder: Path, check: bool = False, seconds: float = 300) -> Ran:
    """`python arguments` in a process of its own, on one thread, as this process computes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=check,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def write_flickr8k(folder: Path) -> None:
    """Ten pictures in the files that Flickr8k is published in."""
    tokens, splits = [], {"train": range(7), "dev": (7, 8), "test": (9,)}
    for i in range(10):
        write_picture(folder / "Flicker8k_Dataset" / f"{i}_x.jpg", i)
        tokens += [f"{i}_x.jpg#{k}\t{WORDS[(i + k) % 4]}\n" for k in range(5)]
    (folder / "Flickr8k.token.txt").write_text("".join(tokens))
    for split, numbers in splits.items():
        names = "".join(f"{i}_x.jpg\n" for i in numbers)
        (folder / f"Flickr_8k.{split}Images.txt").write_text(names)
