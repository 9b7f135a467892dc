"""In README and docs/, commands are options that exist, and paths are files that are there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from running import ROOT, Ran

from captioner.cli import option_names
from captioner.config import EvaluateOptions, TrainOptions

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(?:bash|sh|shell)\n(.*?)^```", re.M | re.S)
OUR_FOLDERS = "captioner|conf|docs|notebooks|results|scripts|tests"
SHELL = {"|", ">", ">>", "<", "&&", ";", "2>", "&"}


def commands(text: str) -> list[list[str]]:
    """Every command of the fenced shell blocks, as words, with continued lines joined."""
    lines = "\n".join(FENCE.findall(text)).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line.removeprefix("$ "), True))]


def script_calls(text: str) -> list[tuple[str, list[str]]]:
    """Name and arguments of each of our scripts, however it is started."""
    calls = []
    for words in commands(text):
        for place, word in enumerate(words):
            script = re.fullmatch(r"(?:\./)?scripts/(\w+)\.py", word)
            if script:
                rest = words[place + 1 :]
                end = next((i for i, each in enumerate(rest) if each in SHELL), len(rest))
                calls.append((script[1], rest[:end]))
        if words[:2] == ["make", "train"]:
            given = next((w.removeprefix("ARGS=") for w in words if w.startswith("ARGS=")), "")
            calls.append(("train", shlex.split(given)))
    return calls


def links(text: str) -> set[str]:
    """Relative links, which begin where the page lies."""
    found = re.findall(r"\]\(([^)#\s]+)[^)]*\)|(?:src|href)=\"([^\"#]+)\"", text)
    return {link for pair in found for link in pair if link and "://" not in link}


def paths(text: str) -> set[str]:
    """What is written like a path into one of our folders."""
    return set(re.findall(rf"(?<![\w./-])(?:{OUR_FOLDERS})/[\w./-]*\w", text))


def options_named(text: str) -> set[str]:
    """What is written like an option, with its section: `decoder.beta=none`."""
    text = re.sub(r"^```(?:python|console)\n.*?^```", "", text, flags=re.M | re.S)
    sections = "data|encoder|decoder|loss|training|search|metrics"
    return set(re.findall(rf"(?<![\w./])((?:{sections})\.(?!md\b|json\b|onnx\b)\w+)", text))


TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
TEXT = "\n".join(TEXTS.values())
CALLS = sorted({(name, *given) for name, given in script_calls(TEXT)})


def test_there_is_something_to_check():
    assert {name for name, *_ in CALLS} >= {"train", "evaluate", "caption", "visualize"}
    assert all(links(text) or paths(text) for page, text in TEXTS.items() if page.parent == ROOT)


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_a_command_composes(run: Callable[..., Ran], call: tuple[str, ...]):
    script, *arguments = call
    assert (ROOT / "scripts" / f"{script}.py").is_file()
    if "--help" in arguments:
        assert run(script, *arguments).status == 0
        return
    if "--multirun" in arguments:  # of which Hydra shows no configuration; so of one of its jobs
        arguments = [re.sub(r"(=[^,\[{(]+),.*", r"\1", a) for a in arguments if a != "--multirun"]
    done = run(script, *arguments, "--cfg", "job")
    assert done.status == 0, f"{script} {arguments}: {done.err}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_all_that_a_page_points_at_is_there(page: Path):
    missing = [link for link in links(TEXTS[page]) if not (page.parent / link).exists()]
    missing += [path for path in paths(TEXTS[page]) if not (ROOT / path).exists()]
    assert missing == []


def test_every_option_that_is_named_exists():
    known = {name for schema in (TrainOptions, EvaluateOptions) for name in option_names(schema)}
    assert options_named(TEXT) and options_named(TEXT) <= known


def test_make_s_targets_exist():
    targets = re.findall(r"^(\w+):.*##", (ROOT / "Makefile").read_text(), re.M)
    named = {words[1] for words in commands(TEXT) if words[0] == "make"}
    assert named and named <= set(targets)


def test_the_checks_themselves_find_what_is_wrong():
    text = """
See [the design](docs/no.md "title"), [the web](https://example.org) and `scripts/no.py`;
runs/x/checkpoints/best is made by a run.
```bash
# a comment
python scripts/train.py data=flickr8k data.root=DIR \\
    name=x  # another
$ torchrun --nproc-per-node 2 scripts/train.py 'decoder.beta=none' > log.txt
make train ARGS="training.epochs=2 name=y"
```
```python
python scripts/other.py
```
"""
    assert script_calls(text) == [
        ("train", ["data=flickr8k", "data.root=DIR", "name=x"]),
        ("train", ["decoder.beta=none"]),
        ("train", ["training.epochs=2", "name=y"]),
    ]
    assert options_named(text) == {"data.root", "decoder.beta", "training.epochs"}
    assert links(text) == {"docs/no.md"}
    assert paths(text) == {"docs/no.md", "scripts/no.py", "scripts/train.py", "scripts/other.py"}
