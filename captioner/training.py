"""The training loop, and what it keeps so that it can go on exactly where it stopped."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import DataLoader

from captioner.averaging import AveragedWeights
from captioner.checkpoint import TrainingState, pack_optimizer, unpack_optimizer
from captioner.config import LossOptions, TrainingOptions
from captioner.data.loader import Batch, EpochBatches
from captioner.data.records import unique
from captioner.logs import RunLog
from captioner.losses import moving_average
from captioner.models.model import CaptioningModel
from captioner.objectives import Objective
from captioner.position import Position, Tally, added, means
from captioner.progress import bar, console
from captioner.random_state import random_state, set_random_state
from captioner.schedule import clip_gradients, learning_rate, set_rates
from captioner.stopping import Stopped, Stopping, handling

Metrics = dict[str, Any]


SCORES = {"bleu-4": "BLEU-4", "cider": "CIDEr"}  # that may choose the best checkpoint


class Trainer:
    """Fits a model to batches; validates, logs and saves after each epoch.

    `validate` scores the model as it stands and `save` writes a checkpoint of it by name. An
    update's loss is divided by the words (or captions) of the whole update, over its pieces and all
    processes, so that neither accumulation nor the number of processes changes what is learnt. One
    whose loss or gradient is no number is left out, by all processes.
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
        stopping: Stopping | None = None,
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
        self.stopping = stopping or Stopping()

    def fit(self, log: RunLog) -> None:
        """Trains to the last epoch, or until `patience` validations in a row brought no gain.

        SIGINT and SIGTERM end it behind an update, or in validation, with `last` saved and
        Stopped raised. Raises ValueError where the numbers have become none.
        """
        at = self.position
        if at.updates == 0:
            self._save_last(log)  # from here on the run can be resumed
        with handling(self.stopping):
            try:
                while at.epoch < self.options.epochs and not self._out_of_patience():
                    self.train_epoch(log)
                    self._end_epoch(log)
            except Stopped:
                self._save_last(log)
                raise

    def _out_of_patience(self) -> bool:
        return self.options.patience is not None and self.position.worse >= self.options.patience

    def train_epoch(self, log: RunLog) -> None:
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
                if self.stopping.agreed:
                    raise Stopped(self.stopping.number or signal.SIGTERM)
                if every and at.updates % every == 0 and at.update < self.batches.updates:
                    self._save_last(log)
                rate = at.tally.means()["captions_per_second"]
                note = f"{_learnt(line)} · {rate:.0f} captions/s"
                progress.update(task, completed=at.updates, note=note)

    def _end_epoch(self, log: RunLog) -> None:
        at = self.position
        epoch = at.epoch + 1
        if epoch % self.options.validate_every == 0 or epoch == self.options.epochs:
            self._validate(log)
        at.epoch, at.update, at.tally = epoch, 0, Tally()
        self._save_last(log)

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
        names, stop = ("loss", "penalty", "grounding", "stop"), float(self.stopping.number > 0)
        sums = self._sum(dict(zip(names, (*losses.tolist(), stop), strict=True))) | sums
        self.stopping.agreed = sums.pop("stop") > 0
        rate = self._set_rates()
        norm = clip_gradients(self.model.parameters(), self.options.clip)
        at.update, at.updates = at.update + 1, at.updates + 1
        if math.isfinite(sums["loss"] + sums["penalty"] + norm):
            self.optimizer.step()
            self._count(sums)
            learnt = {**means(sums), "learning_rate": rate, "gradient_norm": norm}
        else:
            learnt = self._skip(sums["loss"] + sums["penalty"], norm, pieces)
        self.optimizer.zero_grad(set_to_none=True)
        return {"step": at.updates, **learnt}

    def _set_rates(self) -> float:
        progress = (self.position.updates + 1) / self.total
        factor = learning_rate(progress, self.options.warmup, self.options.schedule)
        return set_rates(self.optimizer, factor)

    def _count(self, sums: dict[str, float]) -> None:
        at = self.position
        at.in_a_row = 0
        at.baseline = moving_average(at.baseline, -sums["loss"] / sums["words"])
        if self.average:
            self.average.update(at.updates)
        at.tally.sums = added((at.tally.sums, sums))

    def _skip(self, loss: float, norm: float, pieces: list[Batch]) -> Metrics:
        """Leaves an update out. Raises ValueError for too many in a row, or where it is too late.

        Loss and norm are the same in all processes, and so is what follows from them.
        """
        at = self.position
        at.skipped, at.in_a_row = at.skipped + 1, at.in_a_row + 1
        lost = not self._weights_are_finite()
        if lost or at.in_a_row > self.options.max_skipped:
            what = f"loss is {loss}" if not math.isfinite(loss) else f"gradient's norm is {norm}"
            records = self.loader.dataset.records
            images = [records[i].image_id for piece in pieces for i in piece.items.tolist()]
            why = "the weights are no numbers any more" if lost else f"{at.in_a_row} in a row"
            raise ValueError(
                f"the {what} at update {at.updates}; {why}; checkpoints stay as they were. Try a "
                "lower training.learning_rate or training.clip. Its images: "
                + ", ".join(unique(gather_object(images)))
            )
        return {"skipped": at.in_a_row}

    def _weights_are_finite(self) -> bool:
        return all(bool(p.isfinite().all()) for p in self.model.parameters())

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
        line = {"step": at.updates, "epoch": at.epoch + 1, **at.tally.means(), **metrics}
        if at.skipped:
            line["skipped"] = at.skipped
        line["seconds"] = round(at.seconds, 2)
        log.validation(line)
        if self.accelerator.is_main_process:
            console.print(
                f"epoch {at.epoch + 1}/{self.options.epochs}: {_learnt(line)}, validation loss "
                f"{line['val_loss']:.3f}, {SCORES[score]} {line[score]:.2f}, "
                f"{line['captions_per_second']:.0f} captions/s, {at.seconds:.0f} s so far",
                soft_wrap=True,
            )
        at.worse = 0 if line[score] > at.best else at.worse + 1
        if line[score] > at.best or line[score] == at.best == 0:  # as BLEU-4 may be for long
            at.best = line[score]
            self._save("best", line)

    def _save_last(self, log: RunLog) -> None:
        log.flush()  # no checkpoint is ahead of its log
        self._save("last", {}, self.state())

    def _save(self, name: str, metrics: Metrics, state: TrainingState | None = None) -> None:
        """Raises ValueError rather than to put weights that are no numbers in the place of good."""
        if not self._weights_are_finite():
            raise ValueError(
                f"the weights are no numbers any more after update {self.position.updates}; "
                "checkpoints stay as they were. Try a lower training.learning_rate"
            )
        with self._averaged():
            self.save(name, metrics, state)

    def _averaged(self) -> AbstractContextManager[None]:
        return self.average.applied() if self.average else nullcontext()

    def state(self) -> TrainingState:
        """All that the model's saved weights do not tell: see `restore`."""
        tensors = pack_optimizer(self.optimizer)
        if self.average:
            tensors |= self.average.state()
        tensors["random"] = random_state(self.accelerator)
        values = {
            **asdict(self.position),
            "processes": self.accelerator.num_processes,
            "data": self.loader.dataset.hash,
        }
        return TrainingState({k: v.contiguous().cpu() for k, v in tensors.items()}, values)

    def restore(self, state: TrainingState) -> None:
        """Goes back to where `state` was taken; the model already holds its saved weights.

        Raises ValueError when the number of processes or the training data are others, and when
        the state does not belong to this model.
        """
        try:
            self._restore(dict(state.values), state.tensors)
        except (KeyError, TypeError, RuntimeError, IndexError, AttributeError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(f"what was saved does not fit this run: {reason}") from error

    def _restore(self, values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        data, processes = values.pop("data", None), values.pop("processes")
        if processes != self.accelerator.num_processes:
            raise ValueError(
                f"this run was trained by {processes} processes, now there are "
                f"{self.accelerator.num_processes}; resume it with torchrun "
                f"--nproc-per-node {processes}"
            )
        if data not in (None, self.loader.dataset.hash):
            raise ValueError("the training data have changed; restore them, or start a new run")
        self.position = Position(**{**values, "tally": Tally(**values["tally"])})
        unpack_optimizer(self.optimizer, tensors)
        if self.average:
            self.average.restore(tensors)
        set_random_state(self.accelerator, tensors["random"])


def _learnt(line: Metrics) -> str:
    """The objective, for eyes."""
    if "loss" not in line:
        return "skipped"
    return f"reward {line['reward']:.1f}" if "reward" in line else f"loss {line['loss']:.3f}"
