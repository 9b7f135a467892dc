"""The layout that DESIGN promises: imports only point down, scripts stay thin, files short."""

from __future__ import annotations

import ast
import graphlib
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "captioner").rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))

# A module may import from lower floors, and from its own package on its own floor.
# A name that ends in .* stands for all that a package holds and that is not named on its own.
FLOORS = [
    [
        *("captioner", "config", "files", "grid", "hub", "precision", "process", "progress"),
        *("stopping", "vocabulary"),
        *("data", "data.records", "data.tar"),
    ],
    [
        *("data.*", "models", "models.*", "losses", "metrics", "metrics.*"),
        *("averaging", "position", "random_state", "schedule"),
    ],
    [
        *("search", "consensus", "rules", "checkpoint", "caption", "rows", "card", "logs"),
        *("visualize", "visualize.*"),
    ],
    [
        *("build", "objectives", "training", "validation"),
        *("scoring", "alignment", "attention_scores", "evaluation", "report"),
        *("provenance", "run_folder"),
    ],
    ["captioner.captioner", "exported"],
    [
        *("export", "pictures", "rehearsal", "run", "demo", "cluster", "soup"),
        *("comparison", "comparison_report", "cli", "sweep"),
    ],
    ["benchmark", "benchmark.*"],
]
FLOOR = {
    name if name.split(".")[0] == "captioner" else f"captioner.{name}": height
    for height, names in enumerate(FLOORS)
    for name in names
}
SCRIPTS_IMPORT = {"captioner", "hydra", "omegaconf", *sys.stdlib_module_names}
LONGEST = 300


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE}


def floor(module: str) -> float:
    """The floor of a module; one that stands on none is infinitely high, so none may import it."""
    return FLOOR.get(module, FLOOR.get(f"{package(module)}.*", math.inf))


def package(module: str) -> str:
    """captioner.data for all in data/, however deep, captioner for files of captioner/ itself."""
    first_two = ".".join(module.split(".")[:2])
    return first_two if f"{first_two}.*" in FLOOR else "captioner"


def parent(module: str) -> str:
    return module.rpartition(".")[0]


def imports(path: Path) -> set[str]:
    """Full names of all that a file imports, anywhere in it: modules, and names in modules."""
    name = module_name(path)
    folder = (name if path.name == "__init__.py" else parent(name)).split(".")
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) - node.level + 1]
            source = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            found |= {f"{source}.{alias.name}" for alias in node.names}
    return found


def modules_imported(path: Path) -> set[str]:
    """Modules of captioner/ that a file imports: `from captioner.a import b` is of a, or of a.b."""
    ours = {name for name in imports(path) if name.split(".")[0] == "captioner"}
    return {name if name in MODULES else parent(name) for name in ours}


def may_import(importer: str, imported: str) -> bool:
    down = floor(imported) < floor(importer)
    beside = floor(imported) == floor(importer) and package(imported) == package(importer)
    return down or beside


@pytest.mark.parametrize("path", PACKAGE, ids=module_name)
def test_imports_only_point_down(path: Path):
    module = module_name(path)
    assert floor(module) < math.inf, f"{module} stands on no floor: name it in FLOORS"
    for imported in modules_imported(path):
        assert imported in MODULES, f"{module} imports {imported}, which is no module"
        assert may_import(module, imported), f"{module} must not import {imported}"


def test_imports_form_no_circle():
    graph = {module: modules_imported(path) for module, path in MODULES.items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names a circle
    assert set(order) == set(MODULES)


@pytest.mark.parametrize("path", SCRIPTS, ids=module_name)
def test_scripts_import_only_the_library_and_hydra(path: Path):
    assert {name.split(".")[0] for name in imports(path)} <= SCRIPTS_IMPORT


@pytest.mark.parametrize("path", PACKAGE + SCRIPTS, ids=module_name)
def test_files_are_short_or_say_why_not(path: Path):
    source = path.read_text(encoding="utf-8")
    docstring = " ".join((ast.get_docstring(ast.parse(source)) or "").split())
    lines = len(source.splitlines())
    excused = f"over {LONGEST} lines because" in docstring
    assert lines <= LONGEST or excused, f"{path.name} has {lines} lines and no reason for it"


@pytest.mark.skipif("captioner.captioner" not in MODULES, reason="captioner.py is not there yet")
def test_captioning_loads_no_drawing_logging_or_demo():
    program = (
        "import sys, captioner.captioner; print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "captioner" in loaded
    assert loaded.isdisjoint({"matplotlib", "tensorboard", "gradio", "torchvision"})


def test_the_rules_themselves_tell_up_from_down():
    assert may_import("captioner.search", "captioner.models.decoder")
    assert may_import("captioner.data.loader", "captioner.data.images")
    assert may_import("captioner.data.readers", "captioner.data.readers.coco")
    assert may_import("captioner.captioner", "captioner.build")
    assert not may_import("captioner.models.decoder", "captioner.search")
    assert not may_import("captioner.data.records", "captioner.data.images")
    assert not may_import("captioner.losses", "captioner.models.decoder")
    assert not may_import("captioner.training", "captioner.captioner")
    assert not may_import("captioner.captioner", "captioner.unheard_of")


@pytest.mark.parametrize(
    ("file", "statement", "name"),
    [
        ("captioner/data/loader.py", "from . import images", "captioner.data.images"),
        ("captioner/data/loader.py", "from .images import Transform", "captioner.data.images"),
        ("captioner/data/loader.py", "from ..vocabulary import words", "captioner.vocabulary"),
        ("captioner/data/__init__.py", "from .images import Transform", "captioner.data.images"),
        ("captioner/build.py", "def f():\n    import captioner.losses", "captioner.losses"),
        ("captioner/build.py", "from captioner import losses as l", "captioner.losses"),
    ],
)
def test_every_way_to_import_is_seen(tmp_path, monkeypatch, file: str, statement: str, name: str):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(statement)
    assert name in {name for found in imports(path) for name in (found, parent(found))}
