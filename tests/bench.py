"""A trainer on its bench: what it saves and logs is laid out to be looked at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tiny import SIDE, build_tiny, scenes

from captioner.alignment import Alignment
from captioner.build import build_accelerator, build_objective, build_optimizer
from captioner.checkpoint import TrainingState
from captioner.config import LossOptions, TrainingOptions, TrainOptions
from captioner.data.images import Transform
from captioner.data.loader import CaptionedImages, EpochBatches, ImageSource, training_loader
from captioner.logs import RunLog
from captioner.training import Trainer

UPDATES = 3  # an epoch's: 12 scenes, 4 at a time


class Saved(NamedTuple):
    name: str
    metrics: dict[str, float]
    weights: dict[str, torch.Tensor]
    state: TrainingState | None


def copied(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class Bench:
    """A trainer of a tiny model, with what it saved and logged."""

    def __init__(
        self,
        folder: Path,
        scores: Callable[[int], float] = float,
        loss: LossOptions | None = None,
        fine_tune_from: int | None = 0,
        decoder: dict[str, Any] | None = None,
        aligned: bool = False,
        **options: Any,
    ):
        self.folder, self.validations = folder, 0
        self.saved: list[Saved] = []
        loss = loss or LossOptions()
        tiny = build_tiny(tuned=fine_tune_from is not None, **(decoder or {}))
        self.model = tiny.model
        self.options = TrainingOptions(
            **{"epochs": 1, "batch_images": 4, "precision": "fp32", **options}
        )
        transform = Transform(SIDE, "squash")
        align = Alignment(self.model.encoder.grid, transform) if aligned else None
        images = CaptionedImages(scenes(), tiny.vocabulary, ImageSource(transform), align=align)
        batches = EpochBatches(images.lengths, 4, accumulation=self.options.accumulation)

        def validate() -> dict[str, float]:
            assert not self.model.training
            self.validations += 1
            return {"val_loss": 1.0, "bleu-4": scores(self.trainer.position.epoch + 1)}

        self.trainer = Trainer(
            self.model,
            build_optimizer(self.model, 1e-3, self.options),
            batches,
            training_loader(images, batches),
            build_accelerator(TrainOptions(training=self.options, device="cpu")),
            self.options,
            loss,
            build_objective(loss, self.model, images.records, tiny.vocabulary, max_length=8),
            fine_tune_from,
            validate,
            self.save,
        )

    def save(self, name: str, metrics: dict, state: TrainingState | None) -> None:
        """Copies, as a file would hold them."""
        if state is not None:
            tensors = {name: tensor.clone() for name, tensor in state.tensors.items()}
            state = TrainingState(tensors, json.loads(json.dumps(state.values)))
        self.saved.append(Saved(name, metrics, copied(self.model), state))

    def fit(self) -> Bench:
        log = RunLog(self.folder)
        try:
            self.trainer.fit(log)
        finally:
            log.close()
        return self

    def lines(self, name: str = "steps") -> list[dict[str, float]]:
        lines = (self.folder / f"{name}.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def names(self) -> list[str]:
        return [saved.name for saved in self.saved]
