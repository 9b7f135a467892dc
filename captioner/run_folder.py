"""The folder of a run: made for a new one, taken up again for one that is resumed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from captioner.checkpoint import Checkpoint, load_options, open_checkpoint, save_options
from captioner.config import MOVED, TrainOptions
from captioner.files import locked, recover_folder, whole_file
from captioner.vocabulary import Vocabulary


def new_folder(options: TrainOptions, accelerator: Accelerator) -> Path:
    """The folder of a new run, which must not exist yet."""
    runs, name = Path(options.runs), options.name
    if name is None:  # the first of shapes, shapes-2, shapes-3, … that is free
        candidates = chain([options.data.kind], (f"{options.data.kind}-{n}" for n in count(2)))
        name = next(name for name in candidates if not (runs / name).exists())
    _refuse_taken(runs / name)
    accelerator.wait_for_everyone()  # before one process makes the folder that another looks for
    return runs / name


@contextmanager
def begun(folder: Path, options: TrainOptions) -> Iterator[None]:
    """Makes the folder of a new run, and keeps it locked."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        _refuse_taken(folder)  # while the data were read another may have come first
        with whole_file(folder / "config.yaml") as file:
            save_options(file, options)
        yield


def _refuse_taken(folder: Path) -> None:
    """Raises ValueError for a folder with more in it than a run leaves that died at its start."""
    if folder.exists() and any(not each.name.startswith(".") for each in folder.iterdir()):
        raise ValueError(
            f"{folder} exists already; resume={folder} goes on with it, "
            "another name= starts a new run"
        )


def options_of(folder: Path) -> TrainOptions:
    """Raises ValueError for a folder that is no run's."""
    if not (folder / "config.yaml").exists():
        raise ValueError(f"resume={folder} is no run: it has no config.yaml")
    return load_options(folder / "config.yaml")


def last_checkpoint(folder: Path, accelerator: Accelerator) -> Checkpoint | None:
    """Where a run goes on; None for one that is new, or died before it first saved."""
    last = folder / "checkpoints" / "last"
    with accelerator.main_process_first():  # which puts right what a kill has left
        recover_folder(last)
        return open_checkpoint(last) if last.exists() else None


def check_vocabulary(begin: Checkpoint, vocabulary: Vocabulary) -> None:
    """Raises ValueError where the checkpoint does not belong to these training captions."""
    if begin.vocabulary.hash != vocabulary.hash:
        raise ValueError(
            f"the training captions have changed since {begin.folder} was saved: their vocabulary "
            f"is now {vocabulary.hash}, it was {begin.vocabulary.hash}; restore the data, or start "
            "anew"
        )


def check_options(last: Checkpoint, options: TrainOptions) -> None:
    """Raises ValueError where the run's options are no more those that it was begun with.

    They may say anew where things are, see `MOVED`.
    """
    before = dict(_flat(last.options))
    for name, value in _flat(options):
        if value != before[name] and name not in MOVED:
            raise ValueError(
                f"{name} is {value} in config.yaml, but {last.folder} was trained with "
                f"{before[name]}; put it back, or start a new run"
            )


def _flat(options: TrainOptions, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in vars(options).items():
        if is_dataclass(value):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
