"""Scripts in processes of their own, forked from one that has imported all, which takes 10 s."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from running import ROOT, Ran

CAN_FORK = "forkserver" in multiprocessing.get_all_start_methods()
SECONDS = 120  # longest

First = Callable[[], None]


def run_forked(
    script: str, *arguments: str, folder: Path, first: First | None = None, processes: int = 1
) -> list[Ran]:
    """`python scripts/<script>.py arguments` in a folder, after `first()` in the same process.

    Several processes work together, as those do that torchrun starts. The status is -n for one that
    signal n has killed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["captioner.run", "torch._dynamo"])  # which optimizers import
    together = [{}] if processes == 1 else _ranks(processes)
    started, ran = [], []
    try:
        for rank, environment in enumerate(together):
            said = [folder / f".{stream}{rank}" for stream in ("out", "err")]
            given = (script, arguments, folder, first, environment, said)
            started.append((context.Process(target=_run, args=given), said))
            started[-1][0].start()
        for process, (out, err) in started:
            process.join(SECONDS)
            assert process.exitcode is not None, f"not at its end: {err.read_text()}"
            ran.append(Ran(process.exitcode, out.read_text(), err.read_text()))
    finally:
        for process, _ in started:
            process.kill()
    return ran


def _ranks(processes: int) -> list[dict[str, str]]:
    """The environment that torchrun gives to each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    together = {**address, "WORLD_SIZE": str(processes)}
    return [{**together, "RANK": str(n), "LOCAL_RANK": str(n)} for n in range(processes)]


def _run(
    script: str,
    arguments: tuple[str, ...],
    folder: Path,
    first: First | None,
    environment: dict[str, str],
    said: list[Path],
) -> None:
    for number, path in enumerate(said, 1):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), number)
    os.chdir(folder)
    os.environ.update(environment)
    torch.set_num_threads(1)
    if first:
        first()
    sys.argv = [f"{script}.py", *arguments]
    runpy.run_path(str(ROOT / "scripts" / f"{script}.py"), run_name="__main__")
