"""A checkpoint is a folder that holds all a captioner needs, as safetensors, YAML and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from yaml import AliasToken, TagToken

from captioner.config import TrainOptions
from captioner.files import recover_folder, whole_folder
from captioner.hub import find_folder
from captioner.vocabulary import Vocabulary

FILES = ("model.safetensors", "config.yaml", "vocabulary.json", "metrics.json")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@dataclass
class TrainingState:
    """What `last` keeps beyond the model, so that training goes on exactly where it stopped."""

    tensors: dict[str, Tensor]  # weights before averaging, optimiser moments, random states
    values: dict[str, Any]  # counters, as JSON


@dataclass
class Checkpoint:
    """A checkpoint that has been opened. The weights are read by `load_weights`."""

    folder: Path
    options: TrainOptions
    vocabulary: Vocabulary
    metrics: dict[str, Any]

    def load_weights(self, model: nn.Module) -> None:
        """Raises ValueError when the file is damaged or does not fit the model."""
        path = self.folder / "model.safetensors"
        try:
            with safe_open(path, framework="pt") as file:
                stored = (file.metadata() or {}).get("vocabulary")
            if stored != self.vocabulary.hash:
                raise ValueError(
                    f"{path} was trained with vocabulary {stored}, but vocabulary.json beside it "
                    f"is {self.vocabulary.hash}"
                )
            load_model(model, path, strict=True)
        except (SafetensorError, RuntimeError, OSError) as error:
            lines = str(error).splitlines()
            reason = lines[min(1, len(lines) - 1)].strip()  # torch's first line is a heading
            raise ValueError(f"{path} does not hold this model's weights: {reason}") from error

    def check_size(self, build: Callable[[], nn.Module]) -> None:
        """Raises ValueError where config.yaml asks for far more weights than there are.

        What `build` builds for that is without memory, on the meta device.
        """
        path = self.folder / "model.safetensors"
        try:
            with torch.device("meta"):
                asked = sum(p.numel() * p.element_size() for p in build().parameters())
        except (RuntimeError, TypeError, OverflowError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"{self.folder / 'config.yaml'} asks for no model: {reason}"
            ) from error
        stored = path.stat().st_size
        if asked > 2 * stored:
            raise ValueError(
                f"{path} does not hold this model's weights: config.yaml asks for "
                f"{asked / 1e6:.1f} MB of them, and it has {stored / 1e6:.1f} MB"
            )

    def training_state(self) -> TrainingState:
        """Raises ValueError for a checkpoint that was not kept for resuming."""
        try:
            stored = load_file(self.folder / "training.safetensors")
            # Not as parts of the mapped file, which the next save takes away.
            tensors = {name: tensor.clone() for name, tensor in stored.items()}
            values = json.loads((self.folder / "training.json").read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise ValueError("training.json is no JSON object")
        except (SafetensorError, OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{self.folder} can't be resumed from: {error}") from error
        return TrainingState(tensors, values)


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    options: TrainOptions,
    vocabulary: Vocabulary,
    metrics: dict[str, Any],
    state: TrainingState | None = None,
) -> None:
    """Writes the folder under a temporary name and moves it into place when it is whole.

    Raises OSError where the disk is full.
    """
    with whole_folder(folder) as new, _as_os_error():
        save_model(model, new / "model.safetensors", metadata={"vocabulary": vocabulary.hash})
        save_options(new / "config.yaml", options)
        vocabulary.save(new / "vocabulary.json")
        (new / "metrics.json").write_text(json.dumps(metrics, indent=1))
        if state is not None:
            save_file(state.tensors, new / "training.safetensors")
            (new / "training.json").write_text(json.dumps(state.values, indent=1))


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:  # which is what a full disk is to safetensors
        raise OSError(str(error)) from error


def open_checkpoint(folder: str | Path) -> Checkpoint:
    """Opens a folder, or what the Hub has under `owner/name`, as `find_folder` does.

    Raises ValueError when it is no checkpoint, saying what it lacks.
    """
    recover_folder(Path(folder))
    folder = find_folder(folder, FILES)
    for name in FILES:
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is no checkpoint: it has no {name}" + _nearby(folder))
    _refuse_pickle(folder / "model.safetensors")
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        if not isinstance(metrics, dict):
            raise ValueError("it is no JSON object")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{folder / 'metrics.json'} is damaged: {error}") from error
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    return Checkpoint(folder, load_options(folder / "config.yaml"), vocabulary, metrics)


def _refuse_pickle(path: Path) -> None:
    """Tells what a pickle is, alone or in torch's zip, which any other reader would run."""
    with path.open("rb") as file:
        start = file.read(4)
    # Of a safetensors header's length, which begins in the same place, the third byte would be 0.
    pickled = start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05" and start[2:3] != b"\0"
    if pickled or start == b"PK\x03\x04":
        raise ValueError(
            f"{path} is a pickle, not safetensors: it could run code, so it is not opened"
        )


def save_options(path: Path, options: TrainOptions) -> None:
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(asdict(options))), encoding="utf-8")


def load_options(path: Path) -> TrainOptions:
    """Raises ValueError for a file that is not YAML, or holds an option that does not exist.

    Options are plain values. References, within the file or to the environment, are refused: they
    could unfold without end, or bring in what the file does not hold. So are tags, which the parser
    stumbles over.
    """
    try:
        if path.stat().st_size > 100_000:
            raise ValueError(f"{path} is too large for the options of a training run")
        text = path.read_text(encoding="utf-8")
        if max(map(text.count, "[{")) > 200:  # nesting, which takes long to be refused
            raise ValueError(f"{path} is too large for the options of a training run")
        tokens = yaml.scan(text)
        if "${" in text or any(isinstance(token, (AliasToken, TagToken)) for token in tokens):
            raise ValueError(f"{path} holds a reference or a tag; options are plain values")
        stored = OmegaConf.load(path)
        if not stored:
            raise ValueError(f"{path} is empty; it should hold the options of a training run")
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TrainOptions), stored))
    except (
        *(OmegaConfBaseException, yaml.YAMLError, OSError, UnicodeDecodeError),
        *(RecursionError, TypeError, AttributeError, OverflowError),
    ) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} does not hold this version's options: {reason}") from error


def _nearby(folder: Path) -> str:
    """Names the checkpoints in or below a folder that was given in their place, or its pickles."""
    found = sorted(path.parent for path in folder.glob("**/model.safetensors"))
    if found:
        return f"; did you mean {found[0]}?"
    pickles = sorted(path.name for path in folder.glob("*") if path.suffix in PICKLES)
    return f"; {pickles[0]} is a pickle, which could run code and is not opened" if pickles else ""


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's moments as `optimizer.<parameter>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": torch.as_tensor(value)
        for index, moments in state.items()
        for name, value in moments.items()
    }


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Gives an optimiser of the same parameters the moments that `pack_optimizer` took."""
    content = optimizer.state_dict()
    for key, tensor in tensors.items():
        kind, *rest = key.split(".", 2)
        if kind == "optimizer":
            content["state"].setdefault(int(rest[0]), {})[rest[1]] = tensor
    optimizer.load_state_dict(content)
