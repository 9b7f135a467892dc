"""What training asks of its validation split: free-running scores, and the loss for curves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from captioner.config import MetricOptions, SearchOptions
from captioner.data.loader import (
    Batch,
    CaptionedImages,
    EpochBatches,
    ImageSource,
    training_loader,
)
from captioner.data.records import Record
from captioner.evaluation import Evaluation, checks_attention, decode, evaluate
from captioner.models.hard import HardAttention
from captioner.models.model import CaptioningModel
from captioner.objectives import batch_loss
from captioner.stopping import Stopped, Stopping
from captioner.vocabulary import Vocabulary

BATCH = 64  # images
DRAWN, DRAWS = 16, 8  # images, and how often, for the variance of hard attention's gradient


class Validation:
    """Scores a model on a split, its images shared out over the processes."""

    def __init__(
        self,
        model: CaptioningModel,
        records: Sequence[Record],
        vocabulary: Vocabulary,
        source: ImageSource,
        search: SearchOptions,
        accelerator: Accelerator,
        training: Sequence[str] = (),
        stopping: Stopping | None = None,
    ):
        """training: the captions trained on, to tell what is novel."""
        self.model, self.records, self.vocabulary = model, records, vocabulary
        self.source, self.search, self.accelerator = source, search, accelerator
        self.training = training
        self.stopping = stopping or Stopping()
        self.latest: Evaluation | None = None  # of the last call
        images = CaptionedImages(records, vocabulary, source)
        self.loader = training_loader(images, EpochBatches(images.lengths, BATCH))

    def evaluation(self) -> Evaluation:
        """All of `evaluate`'s scores, the same on every process.

        Raises Stopped in all of them where a signal came to one.
        """
        drawn = torch.get_rng_state()  # loaders draw from it
        accelerator = self.accelerator
        mine = self.records[accelerator.process_index :: accelerator.num_processes]
        traced = checks_attention(self.records)
        decoded = decode(self.model, mine, self.source, self.search, trace=traced)
        decoded = list(takewhile(lambda _: not self.stopping.number, decoded))
        if number := max(gather_object([self.stopping.number])):
            torch.set_rng_state(drawn)  # a resumed run validates anew
            raise Stopped(number)
        if accelerator.num_processes > 1:
            order = {record.image_id: place for place, record in enumerate(self.records)}
            decoded = sorted(gather_object(decoded), key=lambda each: order[each.record.image_id])
        return evaluate(
            decoded,
            self.vocabulary,
            self.model.encoder.grid,
            self.source.transform,
            self.search,
            MetricOptions(),
            self.training,
        )

    @torch.no_grad()
    def loss(self) -> float:
        """Cross-entropy in nats per word under teacher forcing: for curves, not for choosing."""
        total, words = 0.0, 0
        for batch in self.loader:
            batch = batch.to(self.accelerator.device)
            total += float(batch_loss(self.model, batch).cross_entropy)
            words += batch.words
        return total / words

    def gradient_variance(self) -> float:
        """How much the gradient that hard attention learns from varies with what is drawn.

        The trace of its covariance over `DRAWS` draws for the same `DRAWN` images: the gradient of
        the cross-entropy in nats per word by attention's weights, as the estimator gives it, with
        λ_r = 1, no dropout, and these images' own log p per word as baseline.
        """
        attention, device = self.model.decoder.attention, self.accelerator.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            batch = next(iter(self.loader)).each(lambda part: part[:DRAWN]).to(device)
            attention.train()
            with torch.no_grad():
                log_p = -float(batch_loss(self.model, batch).cross_entropy) / batch.words
            gradients = [self._attention_gradient(batch, log_p) for _ in range(DRAWS)]
            attention.eval()
        return float(torch.stack(gradients).var(0).sum())

    def _attention_gradient(self, batch: Batch, baseline: float) -> Tensor:
        """See `gradient_variance`; all weights' in one row."""
        loss = batch_loss(self.model, batch, baseline=baseline)
        weights = list(self.model.decoder.attention.parameters())
        gradients = torch.autograd.grad(loss.cross_entropy + loss.reinforce, weights)
        return torch.cat([gradient.flatten() for gradient in gradients]) / batch.words

    def __call__(self) -> dict[str, float]:
        """A log line's worth of scores: no intervals, and BLEU with its brevity penalty."""
        self.latest = self.evaluation()
        scores = {
            name: value
            for name, value in self.latest.scores.estimates().items()
            if isinstance(value, float) and not name.endswith("-no-bp")
        }
        if isinstance(self.model.decoder.attention, HardAttention):
            scores["attention-gradient-variance"] = self.gradient_variance()
        return {"val_loss": self.loss(), **scores}
