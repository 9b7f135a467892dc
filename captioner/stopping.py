"""SIGINT and SIGTERM end a program where it may be ended."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal asked for the end. `str()` says what to do next, where there is something to say."""

    def __init__(self, number: int = signal.SIGINT, advice: str = ""):
        super().__init__(advice)
        self.number = number

    @property
    def status(self) -> int:
        """130 or 143: the exit status that shells give to what a signal ended."""
        return 128 + self.number


class Stopping:
    """Takes note of signals: `number` is the last one's, or 0.

    `agreed` says that all processes know of one, so that all stop at the same place.
    """

    number, agreed = 0, False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.number = number


def raise_stopped(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


@contextmanager
def handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Within the block signals call `handler`; outside of the main thread all stays as it is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(number, handler) for number in SIGNALS]
    try:
        yield
    finally:
        for number, each in zip(SIGNALS, before, strict=True):
            signal.signal(number, each)


def leave_stopping_to_parent(worker: int) -> None:
    """For a loader's workers: schedulers signal every process, and a parent may need its workers.

    It sends them away itself, at the latest by `end_workers`, and they leave by themselves when it
    is gone.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def end_workers() -> None:
    """For the parent's exit, where Python would send SIGTERM and wait for what ignores it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler takes their end for an error
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()
