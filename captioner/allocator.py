"""What is freed stays with the process, for the next step to use again."""

from __future__ import annotations

import ctypes
from contextlib import suppress

# Parameters of glibc's mallopt(3).
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
NEVER, LARGEST = -1, 2**30  # bytes


def keep_freed_memory() -> None:
    """Has glibc keep what torch frees, up to a GiB at a time; elsewhere it does nothing.

    By default blocks of many MB, such as the feature maps of a batch, are given back to the system
    and taken anew each time, page by page and each page filled with zeros.
    """
    with suppress(AttributeError, OSError):  # no glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP_THRESHOLD, LARGEST)
        mallopt(TRIM_THRESHOLD, NEVER)
