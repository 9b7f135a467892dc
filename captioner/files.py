"""Files appear whole or not at all, and what is being written by one is not written by another."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO

from captioner.progress import console

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None


def write_atomically(path: Path, content: str) -> None:
    """Writes text under a temporary name, then renames: a reader sees the old file or the new."""
    with whole_file(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, flushed and renamed to it if the block ends well.

    What a killed writer left under the temporary name is written over. Raises ValueError where a
    live one is at it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    with _failing_clearly(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _claimed(temporary, path):
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
    with _failing_clearly(path):
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


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Keeps other processes that ask for the same folder out of the block, by `<folder>/.lock`.

    The system releases the lock when the process ends, however it ends. It belongs to this process
    alone: loader workers, which may outlive a killed one by seconds, do not hold it. Where another
    process has it, raises ValueError, or waits.
    """
    with (folder / ".lock").open("w") as file:
        if not _lock(file, "lockf"):
            if not wait:
                raise ValueError(f"{folder} is in use by another process; let it end, or stop it")
            console.print(f"waiting for another process that is at work in {folder}")
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _claimed(temporary: Path, path: Path) -> Iterator[None]:
    """Likewise for a file, empty now, which the block opens by its name, and closes.

    A lock by `flock` outlives that.
    """
    if fcntl is None:
        yield
        return
    with temporary.open("a") as file:
        if not (_lock(file, "flock") and _is_at(file, temporary)):
            raise ValueError(f"{path} is being written by another process")
        file.truncate(0)
        yield


@contextmanager
def _failing_clearly(path: Path) -> Iterator[None]:
    """A full disk, a folder without permission: OSError names what was to be written."""
    try:
        yield
    except OSError as error:
        kept = "; what stood there is kept" if path.exists() else ""
        raise OSError(f"{path} can't be written: {error.strerror or error}{kept}") from error


def _lock(file: IO, kind: str) -> bool:
    """Whether no other process holds the lock. On file systems without locks none does."""
    try:
        if fcntl is not None:
            getattr(fcntl, kind)(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return True


def _is_at(file: IO, path: Path) -> bool:
    """Whether an open file is still what stands at a path, and was not renamed meanwhile."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _flush(file: Path) -> None:
    """Has the system put a file on the disk, so that a rename never outlives its content."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def free_space(path: str | Path) -> int:
    """Bytes that are free on the disk where `path` is, or would be."""
    path = Path(path).absolute()
    return shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free
