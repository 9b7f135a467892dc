"""All measurements of one run, in one report."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import torch

from captioner.benchmark.contests import (
    TEXTBOOK,
    Contest,
    beam_search,
    feature_extraction,
    folder_captioning,
)
from captioner.benchmark.growth import Growth, grow
from captioner.benchmark.memory import Use, a_search, an_epoch, resident
from captioner.benchmark.timing import Limits, Measured, Spread, alternate, measure_limits
from captioner.benchmark.updates import training
from captioner.build import build_device, build_transform, has_fast_bf16
from captioner.config import BenchmarkOptions, SizeOptions
from captioner.data.images import find_images, open_image
from captioner.data.shapes import sample_scene
from captioner.models.additive import fuse
from captioner.models.encoder import build_encoder
from captioner.progress import track

PICTURE = (500, 375)  # pixels, as Flickr8k's often are
SIDES = {"cpu": [1024, 2048], "cuda": [4096, 8192]}  # of the matrices whose product is the limit
MEGABYTES = 256  # of the copy that is the limit


@dataclass
class Row:
    """One line of the table. What could not be measured is None."""

    name: str
    unit: str
    contestant: str
    value: Spread | None = None
    ratio: Spread | None = None  # to the textbook's run of the same turn
    limit: float | None = None  # what the machine allows at most, in the unit
    memory: float | None = None  # bytes that a run adds at most
    note: str = ""


@dataclass
class Report:
    """All that was measured, and where."""

    machine: dict[str, str | int]
    limits: Limits
    sizes: SizeOptions
    rows: list[Row]
    growth: list[Growth] = field(default_factory=list)


def benchmark(options: BenchmarkOptions) -> Report:
    """Raises ValueError for a device, an encoder or images that are not there.

    Ours is as it is in long runs, for which attention's scores are compiled.
    """
    device, sizes = build_device(options.device), options.sizes
    fused = device.type == "cpu" and fuse()
    dtypes = ["float32", *(["bfloat16"] if has_fast_bf16(device) else [])]
    with _pictures(options.images, sizes.images) as paths:
        limits = measure_limits(device, dtypes, SIDES[device.type], MEGABYTES, options.repeats)
        rows = []
        for contest in track(_contests(options, paths, dtypes, device), "contests", 4):
            measured = alternate(contest.runs, options.repeats, device)
            rows += [_row(contest, name, measured, limits) for name in measured]
            rows += [Row(contest.name, contest.unit, name) for name in contest.missing]
            rows += [
                Row("model on the disk", "MB", name, Spread.of([size]))
                for name, size in contest.megabytes.items()
            ]
    wide = replace(sizes, width=sizes.wide)
    rows.append(_growth_of_memory("an epoch", an_epoch, sizes.cached, sizes))
    rows.append(_growth_of_memory(f"a search, width {sizes.wide}", a_search, sizes.searched, wide))
    if device.type != "cuda":
        rows.append(Row("all this on a GPU", "", ""))
    growth = grow(options, device) if options.growth else []
    return Report(_machine(device) | {"fused": fused}, limits, sizes, rows, growth)


def _contests(
    options: BenchmarkOptions, paths: list[Path], dtypes: list[str], device: torch.device
) -> Iterator[Contest]:
    """Each is made when the one before is over, and its memory is free again."""
    sizes, encoder = options.sizes, options.encoder
    transform = build_transform(encoder)

    def build() -> torch.nn.Module:
        return build_encoder(encoder.name, encoder.image_size, encoder.node, encoder.weights).eval()

    yield training(sizes, dtypes, device)
    yield beam_search(sizes, dtypes, device)
    pixels = torch.stack([transform(open_image(path)) for path in paths[: sizes.batch]])
    yield feature_extraction(build(), dtypes, pixels.to(device))
    yield folder_captioning(build(), transform, paths, sizes, dtypes, device)


@contextmanager
def _pictures(images: str | None, count: int) -> Iterator[list[Path]]:
    """The first files that are named, or generated scenes as JPEG files that vanish afterwards."""
    if images is not None:
        yield find_images(images)[:count]
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{seed}.jpg") for seed in range(count)]
        for seed, path in enumerate(paths):
            sample_scene(seed).draw(PICTURE[0]).resize(PICTURE).save(path, quality=90)
        yield paths


def _row(contest: Contest, name: str, measured: dict[str, Measured], limits: Limits) -> Row:
    """Rates of one contestant, and how many times the textbook's they are, turn by turn."""
    base, one, ours = measured[TEXTBOOK], measured[name], name != TEXTBOOK
    precision = name if name in limits.products else "float32"
    turns = zip(base.seconds, one.seconds, strict=True)
    return Row(
        contest.name,
        contest.unit,
        name,
        Spread.of([contest.count / seconds for seconds in one.seconds]),
        Spread.of([before / after for before, after in turns]) if ours else None,
        contest.count / limits.seconds(contest.work, precision),
        one.memory,
        contest.agree(name, one.result, base.result) if ours else "",
    )


def _growth_of_memory(name: str, use: Use, counts: list[int], sizes: SizeOptions) -> Row:
    """How much more is resident when the data set is the larger one."""
    few, many = counts
    row = Row(f"memory of {name}: {many:,} images beyond {few:,}", "MB", "float32")
    needed = [resident(use, images, sizes) for images in counts]
    if None not in needed:
        row.value = Spread.of([(needed[1] - needed[0]) / 1e6])
    return row


def _machine(device: torch.device) -> dict[str, str | int]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": device.type,
        "name": name,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(islice(names, 1), platform.processor())
