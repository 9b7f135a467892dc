"""Checkpoints on Hugging Face's Hub: fetched once by their name, and published."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def find_folder(checkpoint: str | Path, files: Sequence[str]) -> Path:
    """The folder that a path names, or else the local copy of `owner/name` on the Hub.

    Of the repository, `files` alone are fetched, into huggingface_hub's cache; what is there is
    not fetched again. Raises ValueError where neither is to be had.
    """
    folder = Path(checkpoint)
    if folder.exists() or not _NAME.fullmatch(str(checkpoint)):
        return folder
    from huggingface_hub import snapshot_download

    with _in_one_line(f"{checkpoint} is no folder here, and could not be fetched as a model of"):
        return Path(snapshot_download(str(checkpoint), allow_patterns=list(files)))


def upload(folder: Path, name: str, private: bool) -> str:
    """Puts a folder's files into the model repository `owner/name`, made where it is missing.

    Returns its address. Raises ValueError where the Hub refuses or can't be reached.
    """
    from huggingface_hub import HfApi

    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name on the Hub; it should be like owner/name")
    api = HfApi()
    with _in_one_line(f"{name} could not be published on"):
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="A captioner")
    return str(address)


@contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    """huggingface_hub lets through errors of its own, of the system and of its HTTP library."""
    try:
        yield
    except Exception as error:
        causes = [error]
        while cause := causes[-1].__cause__:
            causes.append(cause)
        reason = (str(causes[-1]) or type(causes[-1]).__name__).strip().splitlines()[0]
        raise ValueError(f"{what} Hugging Face's Hub: {reason}") from error
