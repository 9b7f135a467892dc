"""What a script asks of its process, so that all that it computes takes less time."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress

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


def multiply_by_onednn() -> None:
    """Has oneDNN multiply float32 matrices on a CPU, if it is as exact as what torch takes.

    By default torch takes MKL, which on some processors needs up to 1.7 times as long for matrices
    as thin as a recurrence has them. It takes oneDNN only where that may round to bfloat16. Where
    oneDNN then does so, as on processors with AMX, and where a GPU might, nothing is changed.
    """
    import torch  # late: a script tells its --help without it

    if torch.cuda.is_available():
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    if not products_are_exact():
        torch.set_float32_matmul_precision(before)


def products_are_exact() -> bool:
    """Whether float32 matrices are multiplied with all their digits."""
    import torch

    value = 1 + 2**-12  # which has too many for bfloat16 and for TensorFloat-32
    rows, columns = torch.full((64, 512), value), torch.full((512, 512), 2**-9)
    return bool((rows @ columns == value).all())


@contextmanager
def torch_products() -> Iterator[None]:
    """Within the block float32 matrices are multiplied as torch does it by default."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
