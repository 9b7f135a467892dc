"""Checkpoints that are meant ill are refused in one line, and before they take memory or time."""

from __future__ import annotations

import html
import json
import os
import pickle
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from fuzzing import read_or_refused
from safetensors.torch import save_file
from tiny import Tiny, build_tiny, write_picture

from captioner import checkpoint
from captioner.build import restore_model
from captioner.captioner import Captioner
from captioner.checkpoint import open_checkpoint
from captioner.config import SearchOptions
from captioner.demo import frame
from captioner.hub import find_folder
from captioner.pictures import names, view
from captioner.vocabulary import Vocabulary

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    return build_tiny()


@pytest.fixture
def saved(tiny: Tiny, tmp_path: Path) -> Path:
    return tiny.save(tmp_path / "best")


@pytest.fixture(autouse=True)
def _little_memory_and_time() -> Iterator[None]:
    def most() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB, on Linux

    before, began = most(), time.monotonic()
    yield
    assert most() - before < 300_000 and time.monotonic() - began < 30


def refused(folder: Path) -> str:
    with pytest.raises(ValueError) as caught:
        restore_model(open_checkpoint(folder), CPU)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Weights.


class Trap:
    def __reduce__(self) -> tuple:
        return (os.system, ("touch sprung",))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5, "torch"])
def test_a_pickle_in_the_weights_place_is_refused_by_name(
    saved: Path, tmp_path: Path, monkeypatch, protocol: int | str
):
    monkeypatch.chdir(tmp_path)
    path = saved / "model.safetensors"
    if protocol == "torch":
        torch.save({"weights": Trap()}, path)
    else:
        path.write_bytes(pickle.dumps({"weights": Trap()}, protocol))
    assert "model.safetensors is a pickle, not safetensors" in refused(saved)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "last.ckpt"])
def test_a_folder_of_pickles_is_refused_by_name(saved: Path, name: str):
    (saved / "model.safetensors").rename(saved / name)
    assert f"no model.safetensors; {name} is a pickle, which could run code" in refused(saved)


def header(content: bytes | dict, length: int | None = None, body: bytes = b"") -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
def test_a_header_of_a_length_that_begins_like_a_pickle_is_none(tmp_path: Path, length: int):
    (tmp_path / "x").write_bytes(header(b" " * length))
    assert (tmp_path / "x").read_bytes()[:2] in {bytes([128, n]) for n in (2, 3, 4, 5)}
    checkpoint._refuse_pickle(tmp_path / "x")


def tensor(shape: list[int], offsets: list[int], kind: str = "F32") -> dict:
    return {"dtype": kind, "shape": shape, "data_offsets": offsets}


LIES = {
    "a header longer than the file": header({}, 2**40),
    "a header of all there can be": header({}, 2**64 - 1),
    "an endless header": header(b"[" * 100_000),
    "a header that is no JSON": header(b"\xff" * 64),
    "a tensor beyond the file": header({"x": tensor([2**40], [0, 2**42])}),
    "sizes whose product overflows": header({"x": tensor([2**33, 2**33], [0, 0])}),
    "a shape that is not that of the bytes": header({"x": tensor([9], [0, 4])}, body=bytes(4)),
    "offsets that run backwards": header({"x": tensor([1], [4, 0])}, body=bytes(4)),
    "offsets below zero": header({"x": tensor([1], [-4, 0])}),
    "two tensors in one place": header(
        {"x": tensor([1], [0, 4]), "y": tensor([1], [0, 4])}, body=bytes(4)
    ),
    "a kind that does not exist": header({"x": tensor([1], [0, 4], "CODE")}, body=bytes(4)),
    "bytes behind the last tensor": header({"x": tensor([1], [0, 4])}, body=bytes(400)),
    "no header": b"",
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_weights_whose_header_lies(tiny: Tiny, saved: Path, lie: bytes):
    (saved / "model.safetensors").write_bytes(lie)
    assert "model.safetensors" in refused(saved)
    with pytest.raises(ValueError, match=r"model\.safetensors"):  # nor without a look at its size
        open_checkpoint(saved).load_weights(tiny.model)


def test_weights_with_another_hash_or_names_that_are_paths(tiny: Tiny, saved: Path):
    path = saved / "model.safetensors"
    weights = {"../../evil": torch.zeros(1), "/etc/evil": torch.zeros(1)}
    save_file(weights, path, metadata={"vocabulary": tiny.vocabulary.hash})
    with pytest.raises(ValueError, match="does not hold this model's weights"):
        open_checkpoint(saved).load_weights(tiny.model)
    save_file(weights, path, metadata={"vocabulary": "0" * 16})
    with pytest.raises(ValueError, match="was trained with vocabulary 0000000000000000"):
        open_checkpoint(saved).load_weights(tiny.model)
    assert not (saved.parent.parent / "evil").exists() and not Path("/etc/evil").exists()
    assert not list(saved.parent.rglob("*evil*"))


# Options.

LAUGHS = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
TRICKS = {
    "a call": ("!!python/object/apply:os.system ['touch sprung']", "config.yaml"),
    "a module": ("name: !!python/module:os", "config.yaml"),
    "an object": ("data: !!python/object:captioner.config.DataOptions {}", "config.yaml"),
    "a billion laughs": (LAUGHS, "holds a reference"),
    "a thing in itself": ("name: &x [*x]", "holds a reference"),
    "the environment": ("name: ${oc.env:HOME}", "holds a reference"),
    "another option": ("name: ${runs}", "holds a reference"),
    "endless nesting": ("data: " + "[" * 20_000, "config.yaml"),
    "endless nesting of maps": ("a: {" * 5_000, "config.yaml"),
    "too much": ("name: x\n#" + "x" * 200_000, "too large"),
    "a class to make": ("encoder: {_target_: os.system, command: 'touch sprung'}", "_target_"),
    "a name that is a list": ("name: [1, 2]", "config.yaml"),
    "a number that is none": ("decoder: {dropout: .nan}", "decoder.dropout"),
    "a dropout without end": ("decoder: {dropout: .inf}", "decoder.dropout"),
    "two documents": ("name: a\n---\nname: b", "config.yaml"),
    "a model of the Hub": ("encoder: {name: 'timm/hf-hub:evil/model'}", "no timm model"),
    "a model of a folder": ("encoder: {name: 'timm/local-dir:/etc'}", "no timm model"),
    "an encoder that is a path": ("encoder: {name: ../../evil, node: x}", "no encoder"),
}


@pytest.mark.parametrize(("text", "named"), TRICKS.values(), ids=TRICKS)
def test_options_that_are_more_than_values(
    saved: Path, tmp_path: Path, monkeypatch, text: str, named: str
):
    monkeypatch.chdir(tmp_path)
    (saved / "config.yaml").write_text(text)
    assert named in refused(saved)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "change",
    [
        ("hidden: 16", "hidden: 1000000000"),
        ("hidden: 16", "hidden: 1000000000000000000"),
        ("hidden: 16", "hidden: 20000"),
        ("embedding: 12", "embedding: 1000000000"),
        ("attention: 8", "attention: 1000000000"),
        ("projection: 0", "projection: 1000000000"),
        ("image_size: 48", "image_size: 1000000"),
        ("image_size: 48", "image_size: 99999999999999999999"),
    ],
    ids=lambda change: change[1],
)
def test_sizes_beyond_the_weights_are_refused_before_memory_is_taken(saved: Path, change):
    path = saved / "config.yaml"
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    assert any(
        named in refused(saved)
        for named in ("MB of them, and it has", "image_size", "asks for no model")
    )


# Vocabulary and metrics.


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("vocabulary.json", "[" * 100_000),
        ("vocabulary.json", '{"words": ' + "[" * 100_000),
        ("vocabulary.json", '{"words": ["\\ud800"], "hash": "x"}'),
        ("vocabulary.json", '{"words": [["a"]], "hash": "x"}'),
        ("vocabulary.json", '{"words": ["a"], "hash": "0000000000000000"}'),
        ("vocabulary.json", "9" * 100_000),
        ("metrics.json", "[" * 100_000),
        ("metrics.json", "[]"),
        ("metrics.json", "9" * 100_000),
    ],
)
def test_json_that_is_none_of_ours(saved: Path, name: str, text: str):
    (saved / name).write_text(text)
    assert name in refused(saved)


def test_words_are_only_text(tiny: Tiny, saved: Path):
    """Whatever stands in a vocabulary, no page runs it."""
    evil = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>"]
    others = [f"../{n}" for n in range(len(tiny.vocabulary) - 4 - len(evil))]
    tiny._replace(vocabulary=Vocabulary([*others, *evil])).save(saved)
    captioner = Captioner.load(saved, "cpu", SearchOptions(min_length=3, max_length=3))
    picture = write_picture(saved.parent / "a.png")
    caption = captioner(picture)
    caption.words[:2], caption.text = evil, " ".join(evil)
    page = html.unescape(frame(caption, view(captioner, picture)))
    assert "alert(1)" in page and "<script>alert" not in page and "<img src=x" not in page


# Paths.


@pytest.mark.parametrize("name", ["../x", "../../etc", "a/../../b", "/etc", ".", "~/x", "x\0y"])
def test_a_name_that_is_a_path_is_no_checkpoint_and_nothing_is_fetched(
    tmp_path: Path, monkeypatch, name: str
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    read_or_refused(lambda: find_folder(name, ["config.yaml"]))
    with pytest.raises(ValueError):
        open_checkpoint(name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("trick", ["../../x", "/etc/x", "a/../../../x", "..", "x/..", "\\..\\x"])
def test_what_is_drawn_stays_in_its_folder(tmp_path: Path, trick: str):
    for name in names([trick, trick, "index", f"{trick}.png"]):
        assert (tmp_path / f"{name}.html").resolve().parent == tmp_path.resolve()


@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml", "vocabulary.json"])
@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "loop"])
def test_a_file_that_is_none_is_missing_and_nobody_waits_for_it(saved: Path, name: str, kind: str):
    path = saved / name
    path.unlink()
    make: dict[str, Callable[[], None]] = {
        "device": lambda: path.symlink_to("/dev/zero"),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "loop": lambda: path.symlink_to(path),
    }
    make[kind]()
    assert f"it has no {name}" in refused(saved)
