"""The notebooks run from top to bottom, and are committed without what they print."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from running import ROOT, Trained

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path: Path) -> NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


@pytest.fixture(scope="module")
def kernel() -> Iterator[AsyncKernelManager]:
    """One for all notebooks, since each would import torch anew."""
    manager = AsyncKernelManager(kernel_name="python3")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run_sync(manager.start_kernel)(cwd=str(ROOT / "notebooks"), env=environment)
    yield manager
    run_sync(manager.shutdown_kernel)(now=True)


def execute(name: str, kernel: AsyncKernelManager, **parameters: object) -> NotebookNode:
    """Runs a notebook where it lies, with other values for what its `parameters` cell sets."""
    notebook = read(ROOT / "notebooks" / name)
    place = next(i for i, cell in enumerate(notebook.cells) if "parameters" in tags(cell))
    for parameter in parameters:
        assert re.search(rf"\b{parameter}\b.* = ", notebook.cells[place].source)
    values = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    notebook.cells.insert(place + 1, new_code_cell(values))
    notebook.cells.insert(0, new_code_cell("%reset -f"))  # nothing is left of the one before
    NotebookClient(notebook, km=kernel, timeout=600).execute()
    return notebook


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def printed(notebook: NotebookNode) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def pictures(notebook: NotebookNode) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_there_are_three():
    assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_is_committed_without_outputs(path: Path):
    for cell in read(path).cells:
        assert cell.cell_type == "markdown" or (cell.outputs, cell.execution_count) == ([], None)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_defines_nothing_reusable(path: Path):
    code = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "code")
    assert not re.search(r"^\s*(def|class) ", code, re.M)
    assert "from captioner" in code


def test_gates(trained: Trained, kernel: AsyncKernelManager):
    done = execute("01_lstm_gates.ipynb", kernel, checkpoint=str(trained.checkpoint))
    assert "c_t = f c_{t-1} + i g" in printed(done) and "forget bias +20" in printed(done)
    assert pictures(done) == 6


def test_attention(trained: Trained, kernel: AsyncKernelManager):
    done = execute("02_attention.ipynb", kernel, checkpoint=str(trained.checkpoint))
    written = dict(re.findall(r"^(as it is|shuffled|unplaced): (.*)$", printed(done), re.M))
    assert len(written) == 3 and written["as it is"] == written["shuffled"]
    assert pictures(done) == 2


def test_training_on_pictures_of_one_s_own(
    trained: Trained, kernel: AsyncKernelManager, tmp_path: Path
):
    folder, checkpoint = str(tmp_path / "own"), str(trained.checkpoint)
    values = {"checkpoint": checkpoint, "folder": folder, "pictures": 40, "epochs": 2}
    done = execute("03_train_your_own.ipynb", kernel, **values)
    assert "nowhere.png" in printed(done) and "4 cells under 2 columns" in printed(done)
    assert "of 24 captions are wholly true" in printed(done)
    assert len(list(Path(folder, "attention").iterdir())) == 3
    assert pictures(done) == 3
