from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest
import torch

from captioner import process
from captioner.process import keep_freed_memory, multiply_by_onednn, torch_products

USED_AGAIN = """
import resource, sys
import torch
from captioner.process import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
faults = []
for _ in range(16):  # until the heap has found its size
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    parts = [torch.ones(2**24) for _ in range(2)]  # 64 MB each, never kept by default
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
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    keep_freed_memory()


def test_float32_products_keep_their_digits():
    multiply_by_onednn()
    for rows, inner, columns in [(5, 512, 512), (64, 512, 2048), (320, 512, 2541), (637, 1280, 64)]:
        one, other = torch.rand(rows, inner), torch.rand(inner, columns)
        exact = one.double() @ other.double()
        assert ((one @ other - exact).abs() / exact).max() < 1e-5  # 4e-3 in bfloat16
        assert ((one[None] @ other[None] - exact).abs() / exact).max() < 1e-5


@pytest.mark.parametrize("exact", [True, False])
def test_onednn_multiplies_only_where_it_is_exact(monkeypatch, exact: bool):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(process, "products_are_exact", lambda: exact)
    multiply_by_onednn()
    assert torch.get_float32_matmul_precision() == ("medium" if exact else "highest")
    torch.set_float32_matmul_precision("medium")
    with torch_products():
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == "medium"


def test_where_a_gpu_might_round_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    multiply_by_onednn()
    assert torch.get_float32_matmul_precision() == "highest"


def test_rounded_products_are_told_from_exact_ones(monkeypatch):
    assert process.products_are_exact()

    def rounded(*args):
        return full(*args).bfloat16().float()

    full = torch.full
    monkeypatch.setattr(torch, "full", rounded)
    assert not process.products_are_exact()
