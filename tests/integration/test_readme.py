"""The README's commands are options that exist, and its paths are files that are there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

import pytest
from running import ROOT, Ran

from captioner.cli import option_names
from captioner.config import TrainOptions

README = ROOT / "README.md"
FENCE = re.compile(r"^```(?:bash|sh|shell|console)\n(.*?)^```", re.M | re.S)
OUR_FOLDERS = "captioner|conf|docs|notebooks|results|scripts|tests"
SHELL = {"|", ">", ">>", "<", "&&", ";", "2>", "&"}

needs_readme = pytest.mark.skipif(not README.exists(), reason="there is no README.md yet")


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


def paths(text: str) -> set[str]:
    """Relative links, and what is written like a path into one of our folders."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)|(?:src|href)=\"([^\"#]+)\"", text)
    found = {link for pair in links for link in pair if link and "://" not in link}
    named = re.findall(rf"(?<![\w./-])(?:{OUR_FOLDERS})/[\w./-]*\w", text)
    return found | set(named)


def options_named(text: str) -> set[str]:
    """What is written like an option, with its section: `decoder.beta=none`."""
    return set(re.findall(r"(?<![\w./])((?:data|encoder|decoder|loss|training|search)\.\w+)", text))


TEXT = README.read_text(encoding="utf-8") if README.exists() else ""


@needs_readme
def test_there_is_something_to_check():
    assert {name for name, _ in script_calls(TEXT)} >= {"train", "evaluate", "caption", "visualize"}
    assert paths(TEXT)


@needs_readme
@pytest.mark.parametrize(("script", "arguments"), script_calls(TEXT), ids=repr)
def test_a_command_composes(run: Callable[..., Ran], script: str, arguments: list[str]):
    assert (ROOT / "scripts" / f"{script}.py").is_file()
    if "--help" in arguments:
        assert run(script, *arguments).status == 0
        return
    if "--multirun" in arguments:  # of which Hydra shows no configuration; so of one of its jobs
        arguments = [re.sub(r"(=[^,\[{(]+),.*", r"\1", a) for a in arguments if a != "--multirun"]
    done = run(script, *arguments, "--cfg", "job")
    assert done.status == 0, f"{script} {arguments}: {done.err}"


@needs_readme
@pytest.mark.parametrize("path", sorted(paths(TEXT)))
def test_a_path_that_is_named_is_there(path: str):
    assert (ROOT / path).exists()


@needs_readme
def test_every_option_that_is_named_exists():
    known = set(option_names(TrainOptions))
    assert options_named(TEXT) and options_named(TEXT) <= known


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
    assert paths(text) == {"docs/no.md", "scripts/no.py", "scripts/train.py", "scripts/other.py"}
