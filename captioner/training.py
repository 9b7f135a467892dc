"""The training loop, and what it keeps so that it can go on exactly where it stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
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
from captioner.losses import CaptionLoss, caption_loss, moving_average, reinforce
from captioner.models.decoder import in_order
from captioner.models.model import CaptioningModel
from captioner.progress import bar, console

Metrics = dict[str, Any]


def learning_rate(progress: float, warmup: float, schedule: str) -> float:
    """Factor on the peak rate after a fraction `progress` of all updates: up, then down to 0."""
    if progress < warmup:
        return progress / warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def batch_loss(
    model: nn.Module, batch: Batch, label_smoothing: float = 0.0, baseline: float = 0.0
) -> CaptionLoss:
    """The sums of equation (14), and of section 4.1, for a batch under teacher forcing."""
    logits, attended, draw = model(batch.images, batch.tokens, batch.mask)
    targets = in_order(batch.targets, batch.mask)
    loss = caption_loss(logits, targets, attended, batch.mask[..., 0], label_smoothing)
    if draw is None:
        return loss
    surrogate = reinforce(logits, targets, draw.log_prob, batch.mask, baseline, label_smoothing)
    return loss._replace(reinforce=surrogate, entropy=draw.entropy.sum())


@dataclass
class Tally:
    """Sums over the updates of one epoch, over all processes."""

    words: float = 0
    captions: float = 0
    cross_entropy: float = 0  # nats
    penalty: float = 0
    seconds: float = 0

    def means(self) -> dict[str, float]:
        """Cross-entropy in nats per word, penalty per caption, captions per second."""
        return {
            "loss": self.cross_entropy / max(1, self.words),
            "penalty": self.penalty / max(1, self.captions),
            "captions_per_second": self.captions / max(1e-9, self.seconds),
        }


@dataclass
class Position:
    """How far training has come."""

    epoch: int = 0  # epochs completed
    update: int = 0  # updates within the current epoch
    updates: int = 0  # updates in all
    best: float = -1.0  # highest validation BLEU-4
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
        fine_tune_from: int | None,
        validate: Callable[[], Metrics],
        save: Callable[[str, Metrics, TrainingState | None], None],
    ):
        self.model, self.optimizer, self.accelerator = model, optimizer, accelerator
        self.wrapped = accelerator.prepare(model)  # under DDP and autocast, where asked for
        self.batches, self.loader = batches, loader
        self.options, self.loss, self.fine_tune_from = options, loss, fine_tune_from
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
                note = f"loss {line['loss']:.3f} · {rate:.0f} captions/s"
                progress.update(task, completed=at.updates, note=note)

    def _update(self, pieces: list[Batch]) -> Metrics:
        """One step of the optimiser on one update's images."""
        at, weights, per_word = self.position, self.loss, self.loss.per == "word"
        pieces = [piece.to(self.accelerator.device) for piece in pieces]
        words, captions = self._sum(
            [sum(piece.words for piece in pieces), sum(piece.captions for piece in pieces)]
        )
        # DDP averages gradients over processes; ours are parts of one sum.
        scale = self.accelerator.num_processes / (words if per_word else captions)
        sums = torch.zeros(2, device=self.accelerator.device)
        for i, piece in enumerate(pieces):
            last = i == len(pieces) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                loss = batch_loss(self.wrapped, piece, weights.label_smoothing, at.baseline)
                total = loss.cross_entropy + weights.penalty * loss.penalty
                total = total + weights.reinforce * loss.reinforce - weights.entropy * loss.entropy
                self.accelerator.backward(total * scale)
                sums += torch.stack(loss[:2]).detach()
        cross_entropy, penalty = self._sum(sums.tolist())
        if not math.isfinite(cross_entropy + penalty):
            raise ValueError(
                f"the loss is {cross_entropy + penalty} at update {at.updates + 1}; checkpoints "
                "stay as they were. Try a lower training.learning_rate or training.clip"
            )
        rate = self._set_learning_rate()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        at.update, at.updates = at.update + 1, at.updates + 1
        at.baseline = moving_average(at.baseline, -cross_entropy / words)
        if self.average:
            self.average.update(at.updates)
        for name, value in zip(
            ("words", "captions", "cross_entropy", "penalty"),
            (words, captions, cross_entropy, penalty),
            strict=True,
        ):
            setattr(at.tally, name, getattr(at.tally, name) + value)
        return {
            "step": at.updates,
            "loss": cross_entropy / words,
            "penalty": penalty / captions,
            "learning_rate": rate,
            "gradient_norm": float(norm),
        }

    def _set_learning_rate(self) -> float:
        """Gives each group its rate for the next update; returns the decoder's."""
        progress = (self.position.updates + 1) / self.total
        factor = learning_rate(progress, self.options.warmup, self.options.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        return self.optimizer.param_groups[0]["lr"]

    def _sum(self, values: list[float]) -> list[float]:
        """The sums over all processes."""
        tensor = torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)
        return self.accelerator.reduce(tensor, "sum").tolist()

    def _validate(self, log: RunLog) -> None:
        at, started = self.position, time.perf_counter()
        self.model.eval()
        with self._averaged():
            metrics = self.validate()
        at.seconds += time.perf_counter() - started
        line = {"step": at.updates, "epoch": at.epoch, **at.tally.means(), **metrics}
        line["seconds"] = round(at.seconds, 2)
        log.validation(line)
        if self.accelerator.is_main_process:
            console.print(
                f"epoch {at.epoch}/{self.options.epochs}: loss {line['loss']:.3f}, validation loss "
                f"{line['val_loss']:.3f}, BLEU-4 {line['bleu-4']:.2f}, "
                f"{line['captions_per_second']:.0f} captions/s, {at.seconds:.0f} s so far",
                soft_wrap=True,
            )
        at.worse += 1
        if line["bleu-4"] > at.best:
            at.best, at.worse = line["bleu-4"], 0
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
