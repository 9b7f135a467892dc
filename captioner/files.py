"""Files appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def write_atomically(path: Path, content: str) -> None:
    """Writes text under a temporary name, then renames: a reader sees the old file or the new."""
    with whole_file(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, flushed and renamed to it if the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_text(path: Path) -> Iterator[TextIO]:
    """A text file to write to, which appears as `path` if the block ends well."""
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as opened:
        yield opened


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place if the block ends well.

    Between the two renames of a replacement the old folder stands beside as `.<name>.old`, which
    `recover_folder` moves back.
    """
    path = Path(path)
    temporary, old = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.old")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.iterdir():
            _flush(file)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.replace(old)
        temporary.replace(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def recover_folder(path: Path) -> None:
    """Undoes a replacement by `whole_folder` that was cut off between its two renames."""
    old = Path(path).with_name(f".{Path(path).name}.old")
    if old.exists() and not Path(path).exists():
        old.replace(path)


def _flush(file: Path) -> None:
    """Has the system put a file on the disk, so that a rename never outlives its content."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def free_space(path: str | Path) -> int:
    """Bytes that are free on the disk where `path` is, or would be."""
    path = Path(path).absolute()
    return shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free
