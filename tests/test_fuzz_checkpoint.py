"""Whatever a checkpoint's folder holds, it loads as what it says or is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing import changed, damaged, read_or_refused
from hypothesis import example, given
from hypothesis import strategies as st
from tiny import Tiny, build_tiny

from captioner import checkpoint
from captioner.build import restore_model
from captioner.checkpoint import (
    Checkpoint,
    TrainingState,
    load_options,
    open_checkpoint,
    pack_optimizer,
    save_checkpoint,
)
from captioner.config import TrainOptions
from captioner.data.features import FeatureCache
from captioner.exported import ExportedCaptioner
from captioner.logs import drop_lines_after
from captioner.vocabulary import SPECIALS, Vocabulary

CPU = torch.device("cpu")
WORDS = {"hash": Vocabulary(["a", "dog"]).hash, "tokenizer": "", "words": ["a", "dog"]}
INDEX = {"shape": [2, 4, 8], "images": ["a.jpg", "b.jpg"]}
EXPORTED = {
    "search": {"strategy": "beam", "width": 3},
    "transform": {"size": 48, "fit": "squash"},
    "grid": {"height": 6, "width": 6, "stride": 8, "offset": 4, "size": 48},
    "gated": True,
}


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    return build_tiny()


@pytest.fixture(scope="module")
def saved(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint to resume from; each test puts back what it damages."""
    folder = tmp_path_factory.mktemp("run") / "last"
    optimizer = torch.optim.AdamW(tiny.model.parameters())
    tensors = {"random": torch.get_rng_state()[None], **pack_optimizer(optimizer)}
    state = TrainingState(tensors, {"epoch": 1, "tally": {"sums": {}}, "processes": 1})
    save_checkpoint(folder, tiny.model, tiny.options, tiny.vocabulary, {"bleu-4": 1.0}, state)
    return folder


def damaged_file(data: st.DataObject, path: Path, read: Callable[[], Any]) -> Any:
    """What `read` gives of a file that was damaged, if anything; then all is as it was."""
    whole = path.read_bytes()
    kinds = [damaged(whole)]
    if path.suffix == ".json":
        kinds.append(changed(json.loads(whole)).map(lambda value: json.dumps(value).encode()))
    path.write_bytes(data.draw(st.one_of(kinds)))
    try:
        return read_or_refused(read)
    finally:
        path.write_bytes(whole)


@pytest.fixture(scope="module")
def opened(saved: Path) -> Checkpoint:
    return open_checkpoint(saved)


@pytest.fixture
def whole_options(opened: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the options takes most of the time where other files are damaged."""
    monkeypatch.setattr(checkpoint, "load_options", lambda path: opened.options)


@given(st.data())
def test_weights(opened: Checkpoint, tiny: Tiny, data: st.DataObject):
    """Their header is what could lie; single weights are any numbers."""
    path = opened.folder / "model.safetensors"
    whole = path.read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    before = {name: value.shape for name, value in tiny.model.state_dict().items()}

    def read() -> dict[str, torch.Size]:
        opened.load_weights(tiny.model)
        return {name: value.shape for name, value in tiny.model.state_dict().items()}

    path.write_bytes(data.draw(damaged(whole[:length])) + whole[length:])
    try:
        assert read_or_refused(read) in (before, None)
    finally:
        path.write_bytes(whole)


@given(st.data())
def test_options(saved: Path, data: st.DataObject):
    path = saved / "config.yaml"
    options = damaged_file(data, path, lambda: load_options(path))
    assert options is None or isinstance(options, TrainOptions)


@pytest.mark.parametrize("value", ["!!int _", "!!bool x", "!!float ''", "!!timestamp 2", "! x"])
def test_options_with_a_tag_are_refused(saved: Path, value: str):
    """The parser stumbles over the first ones."""
    path = saved / "config.yaml"
    whole = path.read_text()
    for text in (value, whole.replace("epochs: ", f"epochs: {value} #")):
        path.write_text(text)
        try:
            with pytest.raises(ValueError, match="a tag; options are plain values"):
                load_options(path)
        finally:
            path.write_text(whole)


@given(st.data())
def test_options_with_a_model_to_build(saved: Path, data: st.DataObject):
    """A line of the decoder's or encoder's has another value, however large."""
    path = saved / "config.yaml"
    whole = path.read_text()
    names = ("hidden", "embedding", "attention", "projection", "heads", "image_size", "dropout")
    names += ("attention_kind", "cell", "beta", "name", "node", "deep_output", "tied_output")
    name = data.draw(st.sampled_from(names))
    value = data.draw(
        st.sampled_from((0, 1, 7, -1, 10**6, 10**9, 10**18, 0.5, "x", "gru", "null", "true", "[]"))
    )
    line = next(line for line in whole.splitlines() if line.strip().startswith(f"{name}:"))
    path.write_text(whole.replace(line, f"{line.partition(':')[0]}: {value}"))
    try:
        read_or_refused(lambda: restore_model(open_checkpoint(saved), CPU))
    finally:
        path.write_text(whole)


@given(st.data())
def test_vocabulary(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    path = tmp_path_factory.getbasetemp() / "vocabulary.json"
    path.write_text(json.dumps(WORDS))
    vocabulary = damaged_file(data, path, lambda: Vocabulary.load(path))
    if vocabulary is not None:
        assert vocabulary.entries[: len(SPECIALS)] == list(SPECIALS)
        assert vocabulary.decode(range(len(vocabulary)))[:-1] is not None


@given(st.data())
@pytest.mark.parametrize("name", ["metrics.json", "vocabulary.json", "training.json"])
@pytest.mark.usefixtures("whole_options")
def test_json(saved: Path, name: str, data: st.DataObject):
    def read() -> dict:
        found = open_checkpoint(saved)
        return found.metrics | found.training_state().values

    assert isinstance(damaged_file(data, saved / name, read), (dict, type(None)))


@given(st.data())
def test_features(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    folder = tmp_path_factory.getbasetemp()
    (folder / "index.json").write_text(json.dumps(INDEX))
    (folder / "features.npy").write_bytes(bytes(256))
    cached = damaged_file(data, folder / "index.json", lambda: FeatureCache(folder))
    assert cached is None or cached.info["images"] is not None


@pytest.mark.parametrize("length", [10**30, 10**11, 0.5])
def test_features_of_a_shape_that_is_none_are_damaged(tmp_path: Path, length: float):
    """Its product with a text would be a text as long."""
    index = {**INDEX, "shape": [length, "x"]}
    (tmp_path / "index.json").write_text(json.dumps(index))
    (tmp_path / "features.npy").write_bytes(bytes(256))
    with pytest.raises(ValueError, match="are damaged; delete them"):
        FeatureCache(tmp_path)


@given(st.data())
def test_exported(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    folder = tmp_path_factory.getbasetemp()
    (folder / "captioner.json").write_text(json.dumps(EXPORTED))
    read = lambda: ExportedCaptioner.load(folder)  # noqa: E731
    assert damaged_file(data, folder / "captioner.json", read) is None  # there are no graphs


@given(damaged(b'{"step": 1, "loss": 2.0}\n{"step": 2}\n{"step": 3}\n'))
@example(b'{"step": 1}\n7\n[1]\n{"step": "x"}\n')
def test_a_log(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.getbasetemp() / "steps.jsonl"
    path.write_bytes(content)
    drop_lines_after(path, 2)
    assert all(json.loads(line)["step"] <= 2 for line in path.read_text().splitlines())
