"""The stopwatch takes turns, the memory gauge sees what is touched, limits bound what is done."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch

from captioner.benchmark.timing import (
    Limits,
    Spread,
    Work,
    alternate,
    measure_limits,
    peak_resident,
)

CPU = torch.device("cpu")
needs_linux = pytest.mark.skipif(peak_resident() is None, reason="only Linux tells")


def test_contestants_take_turns_and_the_first_turn_is_not_timed():
    turns = []
    runs = {name: lambda name=name: turns.append(name) or len(turns) for name in "ab"}
    measured = alternate(runs, 3, CPU)
    assert turns == list("abababab")
    assert [len(each.seconds) for each in measured.values()] == [3, 3]
    assert [each.result for each in measured.values()] == [1, 2]


def test_seconds_are_those_of_each_contestant():
    runs = {"slow": lambda: time.sleep(0.03), "fast": lambda: None}
    measured = alternate(runs, 2, CPU)
    assert min(measured["slow"].seconds) >= 0.03 > min(measured["fast"].seconds)


def test_a_spread_is_the_median_between_quartiles():
    assert Spread.of([4.0, 1.0, 2.0, 3.0, 5.0]) == (3.0, 2.0, 4.0)
    assert Spread.of([7.0]) == (7.0, 7.0, 7.0)


GAUGED = """
import torch
from captioner.benchmark.timing import added_memory
with added_memory(torch.device("cpu")) as added:
    torch.ones(40 * 2**18)  # 40 MiB, gone at once
    torch.ones(20 * 2**18)
print(added())
with added_memory(torch.device("cpu")) as added:
    pass
print(added())
"""


@needs_linux
def test_memory_is_what_was_touched_at_most():
    # In a process of its own: what others freed and the allocator kept would be used again.
    done = subprocess.run([sys.executable, "-c", GAUGED], capture_output=True, text=True)
    touched, nothing = map(float, done.stdout.split())
    assert 38 * 2**20 < touched < 60 * 2**20
    assert nothing < 10 * 2**20


def test_a_limit_is_set_by_products_or_by_copies():
    limits = Limits({"float32": 10.0, "bfloat16": 40.0}, bandwidth=5.0)
    assert limits.seconds(Work(100, 20), "float32") == 10
    assert limits.seconds(Work(100, 20), "bfloat16") == 4
    assert limits.seconds(Work(100, 20).times(2), "float32") == 20


def test_limits_are_rates_of_this_machine():
    limits = measure_limits(CPU, ["float32", "bfloat16"], [16, 128], megabytes=1, repeats=2)
    assert set(limits.products) == {"float32", "bfloat16"}
    assert all(1e6 < rate < 1e15 for rate in (*limits.products.values(), limits.bandwidth))
