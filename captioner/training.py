"""The training loop, and what it keeps so that it can go on exactly where it stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from captioner.averaging import AveragedWeights
from captioner.checkpoint import TrainingState, pack_optimizer, unpack_optimizer
from captioner.config import LossOptions, TrainingOptions
from captioner.data.loader import Batch, EpochBatches
from captioner.logs import RunLog
from captioner.losses import moving_average
from captioner.models.model import CaptioningModel
from captioner.objectives import Objective
from captioner.progress import bar, console

Metrics = dict[str, Any]


SCORES = {"bleu-4": "BLEU-4", "cider": "CIDEr"}  # that may choose the best checkpoint
COUNTS = ("words", "captions", "named")  # words `named` have known regions
PER = {"loss": "words", "grounding": "named"}


def learning_rate(progress: float, warmup: float, schedule: str) -> float:
    """Factor on the peak rate after a fraction `progress` of all updates: up, then down to 0."""
    if progress < warmup:
        return progress / warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def added(parts: Iterable[dict[str, float]]) -> dict[str, float]:
    """The sums, name by name."""
    total: dict[str, float] = {}
    for part in parts:
        total |= {name: total.get(name, 0.0) + value for name, value in part.items()}
    return total


def means(sums: dict[str, float]) -> dict[str, float]:
    """Each sum per so many as `PER` says, of which there must be some; else per caption."""
    counts = {name: sums.get(PER.get(name, "captions"), 0) for name in sums if name not in COUNTS}
    return {name: sums[name] / count for name, count in counts.items() if count}


@dataclass
class Tally:
    """Sums over the updates of one epoch, over all processes."""

    sums: dict[str, float] = field(default_factory=dict)  # as `means` takes them
    seconds: float = 0

    def means(self) -> dict[str, float]:
        speed = self.sums["captions"] / max(1e-9, self.seconds)
        return {**means(self.sums), "captions_per_second": speed}


@dataclass
class Position:
    """How far training has come."""

    epoch: int = 0  # epochs completed
    update: int = 0  # updates within the current epoch
    updates: int = 0  # updates in all
    best: float = -1.0  # highest validation score so far
    worse: int = 0  # validations since
    baseline: float = 0.0  # b of section 4.1, per word
    seconds: float = 0.0  # of training and validation, over all resumptions
    tally: Tally = field(default_factory=Tally)


class Trainer:
    """Fits a model to batches; validates, logs and saves after each epoch.

    `validate` scores the model as it stands and `save` writes a checkpoint of it by name. An
    update's loss is divided by the words (or captions) of the whole update, over its pieces and all
    processes, so that neither accumulation nor the number of processes changes what is learnt.
    """

    def __init__(
        self,
        model: CaptioningModel,
        optimizer: torch.optim.Optimizer,
        batches: EpochBatches,
        loader: DataLoader[Batch],
        accelerator: Accelerator,
        options: TrainingOptions,
        loss: LossOptions,
        objective: Objective,
        fine_tune_from: int | None,
        validate: Callable[[], Metrics],
        save: Callable[[str, Metrics, TrainingState | None], None],
    ):
        self.model, self.optimizer, self.accelerator = model, optimizer, accelerator
        self.wrapped = accelerator.prepare(model)  # under DDP and autocast, where asked for
        self.batches, self.loader = batches, loader
        self.options, self.loss, self.objective = options, loss, objective
        self.fine_tune_from = fine_tune_from
        self.validate, self.save = validate, save
        self.average = AveragedWeights(model, options.ema) if options.ema else None
        self.total = options.epochs * batches.updates
        self.position = Position()

    def fit(self, log: RunLog) -> None:
        """Trains to the last epoch, or until `patience` validations in a row brought no gain."""
        at = self.position
        if at.updates == 0:
            self._save("last", {}, resumable=True)  # from here on the run can be resumed
        while at.epoch < self.options.epochs and not self._out_of_patience():
            self._train_epoch(log)
            at.epoch, at.update = at.epoch + 1, 0
            if at.epoch % self.options.validate_every == 0 or at.epoch == self.options.epochs:
                self._validate(log)
            at.tally = Tally()
            log.flush()
            self._save("last", {}, resumable=True)

    def _out_of_patience(self) -> bool:
        return self.options.patience is not None and self.position.worse >= self.options.patience

    def _train_epoch(self, log: RunLog) -> None:
        at, every = self.position, self.options.save_every
        self.model.train()
        self.model.tuned = self.fine_tune_from is not None and at.epoch >= self.fine_tune_from
        self.batches.at(at.epoch, at.update)
        loader = iter(self.loader)
        with bar(self.accelerator.is_main_process) as progress:
            task = progress.add_task(
                f"epoch {at.epoch + 1}/{self.options.epochs}",
                total=self.total,
                completed=at.updates,
                note="",
            )
            started = time.perf_counter()
            while pieces := list(islice(loader, self.options.accumulation)):
                line = self._update(pieces)
                seconds = time.perf_counter() - started
                at.seconds, at.tally.seconds = at.seconds + seconds, at.tally.seconds + seconds
                started = time.perf_counter()
                log.update(line)
                if every and at.updates % every == 0 and at.update < self.batches.updates:
                    log.flush()
                    self._save("last", {}, resumable=True)
                rate = at.tally.means()["captions_per_second"]
                note = f"{_learnt(line)} · {rate:.0f} captions/s"
                progress.update(task, completed=at.updates, note=note)

    def _update(self, pieces: list[Batch]) -> Metrics:
        """One step of the optimiser on one update's images."""
        at, weights = self.position, self.loss
        self.model.decoder.feedback = self.options.scheduled_sampling * at.updates / self.total
        with self.accelerator.autocast():
            lessons = [self.objective.lesson(p.to(self.accelerator.device)) for p in pieces]
        sums = self._sum(added(lesson.sums for lesson in lessons))
        # DDP averages gradients over processes; ours are parts of one sum.
        scale = self.accelerator.num_processes / sums[f"{weights.per}s"]
        losses = torch.zeros(3, device=self.accelerator.device)
        for i, lesson in enumerate(lessons):
            last = i == len(lessons) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                loss = self.objective.loss(self.wrapped, lesson, at.baseline)
                others = (
                    (weights.penalty, loss.penalty),
                    (weights.reinforce, loss.reinforce),
                    (-weights.entropy, loss.entropy),
                    (weights.grounding, loss.grounding),
                )
                total = loss.cross_entropy + sum(w * term for w, term in others if w)
                self.accelerator.backward(total * scale)
                losses += torch.stack(loss[:3]).detach()
        names = ("loss", "penalty", "grounding")
        sums = self._sum(dict(zip(names, losses.tolist(), strict=True))) | sums
        if not math.isfinite(sums["loss"] + sums["penalty"]):
            raise ValueError(
                f"the loss is {sums['loss'] + sums['penalty']} at update {at.updates + 1}; "
                "checkpoints stay as they were. Try a lower training.learning_rate or training.clip"
            )
        rate = self._set_learning_rate()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        at.update, at.updates = at.update + 1, at.updates + 1
        at.baseline = moving_average(at.baseline, -sums["loss"] / sums["words"])
        if self.average:
            self.average.update(at.updates)
        at.tally.sums = added((at.tally.sums, sums))
        line = {"step": at.updates, **means(sums)}
        return {**line, "learning_rate": rate, "gradient_norm": float(norm)}

    def _set_learning_rate(self) -> float:
        """Gives each group its rate for the next update; returns the decoder's."""
        progress = (self.position.updates + 1) / self.total
        factor = learning_rate(progress, self.options.warmup, self.options.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        return self.optimizer.param_groups[0]["lr"]

    def _sum(self, parts: dict[str, float]) -> dict[str, float]:
        """The sums over all processes, of which each gives its part under the same names."""
        values = list(parts.values())
        tensor = torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)
        return dict(zip(parts, self.accelerator.reduce(tensor, "sum").tolist(), strict=True))

    def _validate(self, log: RunLog) -> None:
        at, started, score = self.position, time.perf_counter(), self.options.best
        self.model.eval()
        with self._averaged():
            metrics = self.validate()
        at.seconds += time.perf_counter() - started
        line = {"step": at.updates, "epoch": at.epoch, **at.tally.means(), **metrics}
        line["seconds"] = round(at.seconds, 2)
        log.validation(line)
        if self.accelerator.is_main_process:
            console.print(
                f"epoch {at.epoch}/{self.options.epochs}: {_learnt(line)}, validation loss "
                f"{line['val_loss']:.3f}, {SCORES[score]} {line[score]:.2f}, "
                f"{line['captions_per_second']:.0f} captions/s, {at.seconds:.0f} s so far",
                soft_wrap=True,
            )
        at.worse += 1
        if line[score] > at.best:
            at.best, at.worse = line[score], 0
            self._save("best", line, resumable=False)

    def _save(self, name: str, metrics: Metrics, resumable: bool) -> None:
        state = self.state() if resumable else None
        with self._averaged():
            self.save(name, metrics, state)

    def _averaged(self) -> AbstractContextManager[None]:
        return self.average.applied() if self.average else nullcontext()

    def state(self) -> TrainingState:
        """All that the model's saved weights do not tell: see `restore`."""
        tensors = pack_optimizer(self.optimizer)
        if self.average:
            tensors |= {f"live.{i}": p.detach().clone() for i, p in enumerate(self.average.live)}
        tensors["random"] = self._random_state()
        values = {**asdict(self.position), "processes": self.accelerator.num_processes}
        return TrainingState({k: v.contiguous().cpu() for k, v in tensors.items()}, values)

    def restore(self, state: TrainingState) -> None:
        """Goes back to where `state` was taken; the model already holds its saved weights.

        Raises ValueError when the number of processes is another.
        """
        values = dict(state.values)
        processes = values.pop("processes")
        if processes != self.accelerator.num_processes:
            raise ValueError(
                f"this run was trained by {processes} processes, now there are "
                f"{self.accelerator.num_processes}; resume it with torchrun "
                f"--nproc-per-node {processes}"
            )
        self.position = Position(**{**values, "tally": Tally(**values["tally"])})
        unpack_optimizer(self.optimizer, state.tensors)
        if self.average:
            with torch.no_grad():
                for i, (live, mean) in enumerate(
                    zip(self.average.live, self.average.mean, strict=True)
                ):
                    mean.copy_(live)
                    live.copy_(state.tensors[f"live.{i}"])
        self._set_random_state(state.tensors["random"])

    def _random_state(self) -> Tensor:
        """Torch's generators of each process: (processes, bytes)."""
        state = torch.get_rng_state()
        if self.accelerator.device.type == "cuda":
            state = torch.cat([state, torch.cuda.get_rng_state(self.accelerator.device)])
        return self.accelerator.gather(state[None].to(self.accelerator.device)).cpu()

    def _set_random_state(self, states: Tensor) -> None:
        state = states[self.accelerator.process_index]
        host = len(torch.get_rng_state())
        torch.set_rng_state(state[:host])
        if self.accelerator.device.type == "cuda":
            torch.cuda.set_rng_state(state[host:], self.accelerator.device)


def _learnt(line: Metrics) -> str:
    """The objective, for eyes."""
    return f"reward {line['reward']:.1f}" if "reward" in line else f"loss {line['loss']:.3f}"
