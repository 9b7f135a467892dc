"""A checkpoint is a folder that holds all a captioner needs, as safetensors, YAML and JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from yaml import YAMLError

from captioner.config import TrainOptions
from captioner.files import recover_folder, whole_folder
from captioner.hub import find_folder
from captioner.vocabulary import Vocabulary

FILES = ("model.safetensors", "config.yaml", "vocabulary.json", "metrics.json")


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

    def training_state(self) -> TrainingState:
        """Raises ValueError for a checkpoint that was not kept for resuming."""
        try:
            tensors = load_file(self.folder / "training.safetensors")
            values = json.loads((self.folder / "training.json").read_text(encoding="utf-8"))
        except (SafetensorError, OSError, ValueError) as error:
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
    """Writes the folder under a temporary name and moves it into place when it is whole."""
    with whole_folder(folder) as new:
        save_model(model, new / "model.safetensors", metadata={"vocabulary": vocabulary.hash})
        save_options(new / "config.yaml", options)
        vocabulary.save(new / "vocabulary.json")
        (new / "metrics.json").write_text(json.dumps(metrics, indent=1))
        if state is not None:
            save_file(state.tensors, new / "training.safetensors")
            (new / "training.json").write_text(json.dumps(state.values, indent=1))


def open_checkpoint(folder: str | Path) -> Checkpoint:
    """Opens a folder, or what the Hub has under `owner/name`, as `find_folder` does.

    Raises ValueError when it is no checkpoint, saying what it lacks.
    """
    recover_folder(Path(folder))
    folder = find_folder(folder, FILES)
    for name in FILES:
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is no checkpoint: it has no {name}" + _nearby(folder))
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / 'metrics.json'} is damaged: {error}") from error
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    return Checkpoint(folder, load_options(folder / "config.yaml"), vocabulary, metrics)


def save_options(path: Path, options: TrainOptions) -> None:
    path.write_text(OmegaConf.to_yaml(OmegaConf.structured(options)), encoding="utf-8")


def load_options(path: Path) -> TrainOptions:
    """Raises ValueError for a file that is not YAML, or holds an option that does not exist."""
    try:
        stored = OmegaConf.load(path)
        if not stored:
            raise ValueError(f"{path} is empty; it should hold the options of a training run")
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TrainOptions), stored))
    except (OmegaConfBaseException, YAMLError, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} does not hold this version's options: {reason}") from error


def _nearby(folder: Path) -> str:
    """Names the checkpoints in or below a folder that was given in their place."""
    found = sorted(path.parent for path in folder.glob("**/model.safetensors"))
    return f"; did you mean {found[0]}?" if found else ""


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
