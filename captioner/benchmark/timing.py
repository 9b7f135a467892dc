"""Stopwatch, high-water mark and yardstick: seconds, peak memory, and what the machine can do."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Spread(NamedTuple):
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        if len(values) == 1:
            return cls(*values * 3)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass
class Measured:
    """One contestant's runs."""

    seconds: list[float]
    memory: float | None  # bytes that the first run added at most; None if not known
    result: Any  # of the first run, which is not timed


def alternate(
    contestants: Mapping[str, Callable[[], Any]], repeats: int, device: torch.device
) -> dict[str, Measured]:
    """Runs each in turn, `repeats` times, so that whatever else the machine does slows all alike.

    A first run of each warms up, is watched for its memory and gives its result.
    """
    measured = {}
    for name, run in contestants.items():
        with added_memory(device) as added:
            result = run()
        measured[name] = Measured([], added(), result)
    for _ in range(repeats):
        for name, run in contestants.items():
            _wait(device)
            started = time.perf_counter()
            run()
            _wait(device)
            measured[name].seconds.append(time.perf_counter() - started)
    return measured


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def added_memory(device: torch.device) -> Iterator[Callable[[], float | None]]:
    """Within the block memory is watched: the GPU's, else what is resident of this process.

    The function that it gives tells how many bytes there were at most beyond those at the start, or
    None where the system does not tell.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: float(torch.cuda.max_memory_allocated(device) - before)
        return
    _give_back()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark starts anew
    except OSError:
        yield lambda: None
        return
    before = peak_resident()
    yield lambda: peak_resident() - before


def _give_back() -> None:
    """Has glibc return to the system what is free, or memory used anew would not be seen."""
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def peak_resident() -> float | None:
    """Bytes of this process that were resident at most; None where the system is not Linux."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = next((line.split() for line in lines if line.startswith("VmHWM:")), None)
    return found and 1024.0 * int(found[1])


class Work(NamedTuple):
    """What a computation's equations take as they stand."""

    flops: float  # of matrix products and convolutions, a multiplication and an addition being two
    bytes: float  # to and from memory

    def times(self, count: float) -> Work:
        return Work(count * self.flops, count * self.bytes)


@dataclass
class Limits:
    """The best that this machine did on the simplest tasks."""

    products: dict[str, float]  # FLOP/s of a matrix product, by dtype
    bandwidth: float  # bytes/s of a copy, read and written ones both counted

    def seconds(self, work: Work, dtype: str) -> float:
        """What the work takes at least, if products and copies overlap perfectly."""
        return max(work.flops / self.products[dtype], work.bytes / self.bandwidth)


def measure_limits(
    device: torch.device, dtypes: list[str], sides: list[int], megabytes: int, repeats: int
) -> Limits:
    """Square matrices of the given sides, and a copy of so many megabytes; the fastest counts."""

    def fastest(run: Callable[[], Any]) -> float:
        return min(alternate({"": run}, repeats, device)[""].seconds)

    def rate(side: int, dtype: torch.dtype) -> float:
        a, b = torch.randn(2, side, side, device=device).to(dtype)
        out = torch.empty_like(a)
        return 2 * side**3 / fastest(lambda: torch.mm(a, b, out=out))

    source = torch.ones(megabytes * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Limits(
        {name: max(rate(side, DTYPES[name]) for side in sides) for name in dtypes},
        2 * source.numel() / fastest(lambda: target.copy_(source)),
    )
