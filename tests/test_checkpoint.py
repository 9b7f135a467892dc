"""A checkpoint gives back what was saved, or one line about what is wrong with it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import Tiny, build_tiny

from captioner import checkpoint
from captioner.build import build_model, restore_model
from captioner.checkpoint import (
    Checkpoint,
    TrainingState,
    load_options,
    open_checkpoint,
    pack_optimizer,
    save_checkpoint,
    unpack_optimizer,
)
from captioner.config import TrainOptions
from captioner.vocabulary import Vocabulary

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    return build_tiny(tied_output=True)


@pytest.fixture
def saved(tiny: Tiny, tmp_path: Path) -> Path:
    return tiny.save(tmp_path / "best", **{"bleu-4": 12.5})


def load(folder: Path) -> torch.nn.Module:
    return restore_model(open_checkpoint(folder), CPU)


def one_line(call: Callable[[], object]) -> str:
    """The message of the ValueError that the call must raise."""
    with pytest.raises(ValueError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_that_was_saved_comes_back_exactly(tiny: Tiny, saved: Path):
    opened = open_checkpoint(str(saved))
    assert opened.options == tiny.options
    assert opened.vocabulary.entries == tiny.vocabulary.entries
    assert opened.metrics == {"bleu-4": 12.5}
    weights, restored = tiny.model.state_dict(), restore_model(opened, CPU).state_dict()
    assert weights.keys() == restored.keys()
    assert all(torch.equal(weights[name], restored[name]) for name in weights)
    assert {path.name for path in saved.iterdir()} == set(checkpoint.FILES)


def test_a_restored_model_is_in_eval_mode_and_its_tied_weights_are_tied(saved: Path):
    model = load(saved)
    assert not any(module.training for module in model.modules())
    assert model.decoder.output.words.weight is model.decoder.embedding.weight


def test_the_encoders_weights_file_is_not_needed_any_more(tiny: Tiny, tmp_path: Path):
    torch.save(tiny.model.encoder.trunk.state_dict(), tmp_path / "trunk.pt")
    options = build_tiny().options
    options.encoder.weights = str(tmp_path / "trunk.pt")
    model = build_model(options.encoder, options.decoder, tiny.vocabulary)
    save_checkpoint(tmp_path / "best", model, options, tiny.vocabulary, {})
    (tmp_path / "trunk.pt").unlink()
    restored = load(tmp_path / "best")
    assert restored.encoder.fixed
    for name, tensor in tiny.model.encoder.state_dict().items():
        assert torch.equal(restored.encoder.state_dict()[name], tensor)


# What can be wrong.


@pytest.mark.parametrize("name", checkpoint.FILES)
def test_a_missing_file_is_named(saved: Path, name: str):
    (saved / name).unlink()
    assert f"it has no {name}" in one_line(lambda: open_checkpoint(saved))


def test_a_run_given_in_place_of_its_checkpoint_is_put_right(tiny: Tiny, tmp_path: Path):
    tiny.save(tmp_path / "checkpoints" / "best")
    message = one_line(lambda: open_checkpoint(tmp_path))
    assert f"did you mean {tmp_path / 'checkpoints' / 'best'}?" in message


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_cut_off_weights_are_refused(saved: Path, kept: int):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert "model.safetensors does not hold this model's weights" in one_line(lambda: load(saved))


def test_code_in_a_weights_file_is_never_run(saved: Path, tmp_path: Path):
    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "sprung",))

    pickled = pickle.dumps({"weights": Trap()})
    for name in checkpoint.FILES:
        good = (saved / name).read_bytes()
        (saved / name).write_bytes(pickled)
        assert name in one_line(lambda: load(saved))
        (saved / name).write_bytes(good)
    torch.save({"weights": Trap()}, saved / "model.safetensors")
    one_line(lambda: load(saved))
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickled)
    assert (tmp_path / "sprung").exists()  # so the trap itself works


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda text: text + "dekoder: 1\n", "dekoder"),
        (lambda text: text.replace("hidden:", "hiden:"), "hiden"),
        (lambda text: text.replace("hidden: 16", "hidden: many"), "many"),
        (lambda text: text.replace("hidden: 16", "hidden: 0"), "decoder.hidden is 0"),
        (lambda text: "- 1\n- 2\n", "config.yaml"),
        (lambda text: "decoder: {", "config.yaml"),
        (lambda text: "", "config.yaml is empty"),
        (lambda text: "just text", "config.yaml"),
    ],
)
def test_foreign_or_damaged_options_are_named(saved: Path, change: Callable, named: str):
    path = saved / "config.yaml"
    path.write_text(change(path.read_text()))
    assert named in one_line(lambda: open_checkpoint(saved))


def test_weights_of_another_shape_or_name_are_named(saved: Path):
    path = saved / "config.yaml"
    text = path.read_text()
    path.write_text(text.replace("hidden: 16", "hidden: 24"))
    assert "size mismatch for decoder." in one_line(lambda: load(saved))
    path.write_text(text.replace("beta: scalar", "beta: none"))
    assert "decoder.beta.gate" in one_line(lambda: load(saved))


def change_vocabulary(saved: Path, change: Callable[[dict], object]) -> None:
    path = saved / "vocabulary.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["words"].reverse(),
        lambda content: content["words"].pop(),
        lambda content: content["words"].append(content["words"][0]),
        lambda content: content["words"].append(5),
        lambda content: content["words"].append(None),
        lambda content: content.update(words="some text"),
        lambda content: content.update(words=7),
        lambda content: content.update(hash="0" * 16),
        lambda content: content.pop("hash"),
    ],
)
def test_a_tampered_vocabulary_is_refused(saved: Path, change: Callable):
    change_vocabulary(saved, change)
    assert "vocabulary" in one_line(lambda: open_checkpoint(saved))


@pytest.mark.parametrize("swap", ["order", "size"])
def test_the_vocabulary_of_another_run_is_refused(tiny: Tiny, saved: Path, swap: str):
    words = tiny.vocabulary.entries[4:]
    words = words[::-1] if swap == "order" else words[:-3]
    Vocabulary(words).save(saved / "vocabulary.json")
    assert "was trained with vocabulary" in one_line(lambda: load(saved))


# Writing over an older one.


def same_weights(folder: Path, tiny: Tiny) -> bool:
    return torch.equal(load(folder).decoder.init.cell.weight, tiny.model.decoder.init.cell.weight)


@pytest.mark.parametrize("step", ["save_model", "save_options", "save_file"])
def test_a_save_that_fails_in_its_middle_loses_nothing(
    tiny: Tiny, saved: Path, monkeypatch, step: str
):
    newer = build_tiny(seed=1, tied_output=True)

    def fail(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, step, fail)
        with pytest.raises(OSError, match="No space"):
            save_checkpoint(saved, *newer_parts(newer), TrainingState({}, {}))
    assert same_weights(saved, tiny) and list(saved.parent.iterdir()) == [saved]
    newer.save(saved)
    assert same_weights(saved, newer) and list(saved.parent.iterdir()) == [saved]


def newer_parts(tiny: Tiny) -> tuple:
    return tiny.model, tiny.options, tiny.vocabulary, {}


def test_a_kill_between_the_two_renames_is_undone_when_it_is_opened(tiny: Tiny, saved: Path):
    saved.rename(saved.with_name(".best.old"))
    assert same_weights(saved, tiny) and list(saved.parent.iterdir()) == [saved]


# What resuming needs.


def trained_optimizer(kind: type, seed: int, steps: int) -> torch.optim.Optimizer:
    torch.manual_seed(seed)
    used, unused = torch.nn.Linear(3, 2), torch.nn.Linear(2, 2)
    groups = [{"params": list(unused.parameters())}, {"params": list(used.parameters())}]
    optimizer = kind(groups, lr=0.1)
    for _ in range(steps):
        used(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam, torch.optim.RMSprop])
def test_an_optimiser_goes_on_exactly(tmp_path: Path, kind: type):
    """Through a file, and with parameters that never got a gradient."""
    optimizer, copy = (trained_optimizer(kind, seed, steps=3 - seed) for seed in (0, 1))
    save_file(pack_optimizer(optimizer), tmp_path / "o.safetensors")
    unpack_optimizer(copy, load_file(tmp_path / "o.safetensors"))
    one, other = ([*o.param_groups[1]["params"]] for o in (optimizer, copy))
    with torch.no_grad():
        for a, b in zip(one, other, strict=True):
            b.copy_(a)
            a.grad = b.grad = torch.ones_like(a)
    optimizer.step()
    copy.step()
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_training_state_comes_back_exactly(tiny: Tiny, tmp_path: Path):
    state = TrainingState({"random": torch.arange(9, dtype=torch.uint8)}, {"loss": 0.1 + 0.2})
    folder = tmp_path / "last"
    save_checkpoint(folder, *newer_parts(tiny), state)
    restored = open_checkpoint(folder).training_state()
    assert torch.equal(restored.tensors["random"], state.tensors["random"])
    assert restored.values == state.values


@pytest.mark.parametrize("damage", ["missing", "cut off", "no JSON"])
def test_a_checkpoint_that_cannot_be_resumed_from_says_so(tiny: Tiny, tmp_path: Path, damage: str):
    folder = tmp_path / "last"
    state = None if damage == "missing" else TrainingState({"random": torch.zeros(9)}, {})
    save_checkpoint(folder, *newer_parts(tiny), state)
    if damage == "cut off":
        path = folder / "training.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
    if damage == "no JSON":
        (folder / "training.json").write_text("{")
    opened: Checkpoint = open_checkpoint(folder)
    assert f"{folder} can't be resumed from" in one_line(opened.training_state)


def test_options_of_an_older_file_get_todays_defaults(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("decoder:\n  hidden: 7\n")
    options = load_options(tmp_path / "config.yaml")
    assert options.decoder.hidden == 7
    assert options.training == TrainOptions().training
