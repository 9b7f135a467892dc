from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

USED_AGAIN = """
import resource, sys
import torch
from captioner.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    parts = [torch.ones(2**22) for _ in range(8)]  # 16 MB each
    del parts
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[-1])
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
def test_freed_memory_is_used_again_without_new_pages():
    def faults(how: str) -> int:
        command = [sys.executable, "-c", USED_AGAIN, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults("keep") < faults("give back") / 4


def test_without_glibc_it_does_nothing(monkeypatch):
    from captioner.allocator import keep_freed_memory

    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    keep_freed_memory()
