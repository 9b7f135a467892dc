"""SIGKILL at random moments: every restart succeeds, and nothing comes out differently."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from running import ROOT, run_process

KILLS = int(os.environ.get("KILLS", 0))  # docs/reliability.md reports 200
SEED = int(os.environ.get("SEED", 0))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills what it forks")
@pytest.mark.skipif(KILLS == 0, reason="takes minutes: KILLS=200 says how many")
def test_killed_again_and_again_all_comes_out_the_same(tmp_path: Path):
    program = ROOT / "tests" / "integration" / "killing.py"
    done = run_process(
        program, tmp_path / "work", KILLS, SEED, folder=tmp_path, seconds=300 + 30 * KILLS
    )
    assert done.status == 0, done.err
    told = json.loads(done.out)
    print(told)
    assert sum(told["killed"].values()) >= KILLS
