from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from browser import CHROMIUM, Browser
from resuming import RECIPE
from running import TINY, Ran, Trained, run_script


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """`run_script` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return run_script


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of the tiny recipe, with pictures. Not to be written to."""
    folder = tmp_path_factory.mktemp("trained")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = run_script("train", *TINY, "name=tiny", "training.pictures=2")
    assert done.status == 0, done.err
    return Trained(folder / "runs" / "tiny", done.out, done.err)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Its `open` leaves behind what another test did."""
    if not CHROMIUM:
        pytest.skip("needs Chromium: apt install chromium")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the recipe that nothing interrupted. Not to be written to."""
    folder = tmp_path_factory.mktemp("whole")
    torch.set_num_threads(1)
    done = run_script("train", *RECIPE, "name=run", f"runs={folder}")
    assert done.status == 0, done.err
    return folder / "run"
