"""docs/ builds without a warning, loads nothing from elsewhere, and shows what happens."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from running import ROOT, Ran, Trained
from tiny import scenes

from captioner.config import TrainOptions

DOCS = ROOT / "docs"
SYMBOL = re.compile(r"\]\[(captioner[\w.]+)\]|^::: (captioner[\w.]+)", re.M)
SYMBOLS = sorted(
    {
        symbol
        for page in DOCS.rglob("*.md")
        for pair in SYMBOL.findall(page.read_text(encoding="utf-8"))
        for symbol in pair
        if symbol
    }
)
SESSIONS = re.findall(
    r"^\$ python scripts/(\w+)\.py(.*)\n(error: .*)$",
    (DOCS / "troubleshooting.md").read_text(encoding="utf-8"),
    re.M,
)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING  -" not in done.stderr
    return folder


class Loaded(HTMLParser):
    """All that a page makes a browser load."""

    def __init__(self, page: Path):
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        if tag in ("script", "img", "iframe", "source") and named.get("src"):
            self.addresses.append(named["src"])
        elif tag == "link" and named.get("rel") != "canonical":
            self.addresses.append(named["href"])


def test_the_pages_build_and_load_nothing_from_elsewhere(site: Path):
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(list(DOCS.rglob("*.md")))  # and a page for what is not found
    for page in pages:
        addresses = Loaded(page).addresses
        assert addresses and not [each for each in addresses if re.match(r"(\w+:)?//", each)]


def test_the_reference_shows_equations_and_options(site: Path):
    text = (site / "reference" / "models.html").read_text(encoding="utf-8")
    assert 'id="captioner.models.attention.SoftAttention"' in text and "softmax(e_t)" in text
    options = (site / "reference" / "options.html").read_text(encoding="utf-8")
    assert "DecoderOptions" in options and "gate on the context vector" in options


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_a_symbol_that_is_named_exists(symbol: str):
    parts = symbol.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for name in parts[count:]:
            found = getattr(found, name)
        return
    pytest.fail(f"there is no {symbol}")


def test_every_equation_of_the_paper_has_its_code():
    rows = re.findall(r"^\| ([^|]+) \|.*\[captioner\.", (DOCS / "paper.md").read_text(), re.M)
    spans = re.findall(r"\((\d+)\)(?:–\((\d+)\))?", " ".join(rows))
    named = {n for low, high in spans for n in range(int(low), int(high or low) + 1)}
    assert named == set(range(1, 15))


@pytest.mark.parametrize(("column", "decoder"), [(0, "paper"), (1, "modern")])
def test_numbers_of_the_paper_and_of_what_came_after_are_those_of_conf(column: int, decoder: str):
    given = OmegaConf.load(ROOT / "conf" / "decoder" / f"{decoder}.yaml")
    options = OmegaConf.merge(TrainOptions, given)
    rows = re.findall(
        r"\| `([a-z_.]+)`[^|]* \| ([^|]+) \| ([^|]+) \|$", (DOCS / "paper.md").read_text(), re.M
    )
    checked = 0
    for option, *cells in rows:
        if number := re.search(r"(\d[\d.]*)(%?)", cells[column]):
            value = float(number[1]) / (100 if number[2] else 1)
            assert OmegaConf.select(options, option) == pytest.approx(value), option
            checked += 1
    assert checked >= 6


@pytest.mark.parametrize(("script", "arguments", "line"), SESSIONS, ids=lambda each: each[:60])
def test_a_mistake_ends_in_the_line_that_is_shown(
    trained: Trained, run: Callable[..., Ran], script: str, arguments: str, line: str
):
    """In a folder with the run f8k, and files such as one may have by mistake."""
    Path("runs").mkdir()
    shutil.copytree(trained.folder, "runs/f8k")
    Path("mine.csv").write_text("file;text\na.jpg;a dog\n")
    assert run(script, *shlex.split(arguments)).mistake.strip() == line


def test_the_snippets_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "pictures" / "train"
    folder.mkdir(parents=True)
    for record in scenes()[:3]:
        record.image.draw(64).save(folder / f"{record.image_id}.png")
        (folder / f"{record.image_id}.txt").write_text("\n".join(record.captions))
    snippets = PYTHON.findall((DOCS / "extend.md").read_text(encoding="utf-8"))
    assert len(snippets) == 5
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(snippet, names)
    assert names["batch"].images.shape == (2, 3, 64, 64)
    assert len(names["collection"].records) == 3


def test_the_python_of_the_first_page_runs(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained.folder, "runs/shapes")
    scenes()[0].image.draw(64).save("photo.jpg")
    names: dict[str, object] = {}
    for snippet in PYTHON.findall((DOCS / "index.md").read_text(encoding="utf-8")):
        exec(snippet, names)
    assert names["caption"].text
