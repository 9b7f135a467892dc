"""Files as readers need them: whatever is wrong with a whole file or folder is one ValueError."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def text_of(file: Path) -> str:
    """A UTF-8 file's text; bytes that aren't UTF-8 become U+FFFD, which `Reading` refuses."""
    try:
        return file.expanduser().read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise ValueError(f"{file}: {(error.strerror or str(error)).lower()}") from None


def lines_of(file: Path) -> Iterator[tuple[str, str]]:
    """The lines that aren't blank, each behind its place, `file:line`."""
    for number, line in enumerate(text_of(file).split("\n"), start=1):
        if line.strip():
            yield f"{file}:{number}", line


def json_of(file: Path) -> Any:
    text = text_of(file)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # endless digits, endless nesting
        raise ValueError(f"{file}: not JSON: {error}") from None


def existing_folder(path: Path | str) -> Path:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    return folder


def files_in(folder: Path) -> set[str]:
    """Names of a folder's files, by one listing; none when there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except (OSError, ValueError):  # ValueError: a name that no folder can have
        return set()


def in_one_line(said: str) -> str:
    """What a file's names would break into several lines, or hide, as escapes (`\\n`)."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in said)
