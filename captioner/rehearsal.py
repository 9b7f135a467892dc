"""What a run will take: each of its parts is done once, with few images, and counted up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from captioner.build import build_source, build_transform
from captioner.config import TrainOptions
from captioner.data.features import cache_key
from captioner.data.records import Record
from captioner.files import free_space
from captioner.logs import RunLog
from captioner.models.encoder import Encoder
from captioner.position import Position
from captioner.training import Trainer

Splits = dict[str, list[Record]]  # train and val
Build = Callable[[TrainOptions, Path, Splits], Trainer]  # from options, the run's folder, records

UPDATES, IMAGES = 2, 50  # of an epoch, and of a validation, that are tried


@dataclass
class Part:
    """What a part of the run will take."""

    name: str
    seconds: float = 0
    bytes: float = 0  # on the disk
    folder: Path | None = None  # there
    note: str = ""


def rehearse(
    build: Build,
    options: TrainOptions,
    folder: Path,
    records: Splits,
    encoder: Encoder,
    device: torch.device,
) -> list[Part]:
    """Tries a run's parts in a folder that vanishes.

    `folder` is the run's own, and `encoder` its model's. Times are those of this machine, as busy
    as it is now, and do not foresee that `training.patience` ends the run.
    """
    with TemporaryDirectory() as temporary:
        few, some = _with_few_images(options, records, Path(temporary))
        parts = [_features(options, few, records, some["val"], encoder, device)]
        parts += _parts(build(few, Path(temporary, "run"), some), options, records, some)
        written = Path(temporary, "run").rglob("*")
        size = sum(path.stat().st_size for path in written if path.is_file())
    return [*parts, Part("checkpoints", bytes=size, folder=folder)]


def _with_few_images(
    options: TrainOptions, records: Splits, folder: Path
) -> tuple[TrainOptions, Splits]:
    """Their features are cached in one view alone, since learning from others takes as long."""
    few = replace(options, data=replace(options.data, cache=str(folder / "cache")))
    if options.encoder.cached:
        few.data.views = 1
    counts = {"train": UPDATES * options.training.batch_images, "val": IMAGES}
    return few, {split: records[split][:count] for split, count in counts.items()}


def _features(
    options: TrainOptions,
    few: TrainOptions,
    records: Splits,
    tried: list[Record],
    encoder: Encoder,
    device: torch.device,
) -> Part:
    """Of the images whose features are not cached yet."""
    if not options.encoder.cached:
        return Part("features", note="not kept: the encoder learns")
    cache, transform = Path(options.data.cache_folder), build_transform(options.encoder)
    missing = 0
    for split, views in (("train", options.data.views or 1), ("val", 1)):
        key = cache_key(encoder.lower, transform, records[split], views)
        if not (cache / key / "index.json").exists():
            missing += views * len(records[split])
    seconds = _seconds(lambda: build_source(few.data, few.encoder, encoder, tried, device))
    lower = encoder.lower
    size = 2 * lower.grid.height * lower.grid.width * lower.annotation  # of half floats
    note = f"{missing} images, views counted" if missing else "all there"
    return Part("features", missing * seconds / len(tried), missing * size, cache, note)


def _parts(trainer: Trainer, options: TrainOptions, records: Splits, some: Splits) -> list[Part]:
    """Training and validation; then the trainer's checkpoints are written."""
    training, more = options.training, {s: len(records[s]) / len(some[s]) for s in some}
    learning = sum(n * _epoch(trainer, first) for first, n in _phases(options) if n)
    trainer.model.eval()
    validation = _seconds(trainer.validate)
    trainer.save("best", {}, None)
    trainer.save("last", {}, trainer.state())
    times = -(-training.epochs // training.validate_every)
    epochs = f"{training.epochs} epochs of {len(records['train'])} images"
    return [
        Part("training", more["train"] * learning, note=epochs),
        Part("validation", more["val"] * validation * times, note=f"{times} times"),
    ]


def _phases(options: TrainOptions) -> list[tuple[int, int]]:
    """The first epoch and the number of epochs before the encoder learns, and from then on."""
    epochs, tuned = options.training.epochs, options.encoder.fine_tune_from
    frozen = epochs if tuned is None else min(tuned, epochs)
    return [(0, frozen), (frozen, epochs - frozen)]


def _epoch(trainer: Trainer, epoch: int) -> float:
    """Seconds of such an epoch; a first one of each kind warms up."""

    def learn() -> None:
        trainer.position = Position(epoch=epoch)
        trainer.train_epoch(RunLog(Path(), active=False))

    learn()
    return _seconds(learn)


def _seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def print_parts(parts: list[Part]) -> None:
    """A table on stdout, with what is free on the disk."""
    table = Table(title="nothing is written yet; about so much it takes")
    for heading in ("", "time", "disk", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for part in parts:
        where = f"in {part.folder}, {_size(free_space(part.folder))} free" if part.bytes else ""
        table.add_row(
            part.name,
            _duration(part.seconds) if part.seconds else "",
            _size(part.bytes) if part.bytes else "",
            "; ".join(filter(None, (part.note, where))),
        )
    table.add_section()
    seconds, size = (
        sum(values) for values in zip(*((p.seconds, p.bytes) for p in parts), strict=True)
    )
    table.add_row("in all", _duration(seconds), _size(size))
    Console().print(table)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _size(count: float) -> str:
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
