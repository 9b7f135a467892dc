"""What a run's numbers came from, beside its options: versions, machine, commit and command."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from captioner.files import write_atomically
from captioner.progress import console

PACKAGES = ("captioner", "torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "nltk")


def note_start(folder: Path, seed: int, accelerator: Accelerator) -> None:
    """Writes `provenance.json`, a list. A resumed run adds to it what has changed, and says so."""
    file = folder / "provenance.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    now = surroundings(accelerator) | {"seed": seed}
    changed = [name for name in now if known and known[-1].get(name) != now[name]]
    if changed:
        console.print(
            f"note: not as when the run was last started: {', '.join(changed)} (provenance.json); "
            "numbers may differ in their last digits",
            soft_wrap=True,
        )
    if changed or not known:
        time = datetime.now(timezone.utc).isoformat(timespec="seconds")
        now |= {"time": time, "command": shlex.join(sys.argv)}
        write_atomically(file, json.dumps([*known, now], indent=1) + "\n")


def surroundings(accelerator: Accelerator) -> dict[str, Any]:
    """On which the same options may give other numbers."""
    device = accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "platform": platform.platform(),
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "processes": accelerator.num_processes,
        "precision": accelerator.mixed_precision,
        "commit": commit(Path(__file__).parent),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit(folder: Path) -> str | None:
    """The commit that the code in a folder is of, with `+` where it was changed since.

    None where git does not keep it, or is not there.
    """
    try:
        _git(folder, "ls-files", "--error-unmatch", ".")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
        return _git(folder, "rev-parse", "HEAD") + "+" * bool(changed)
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
