"""What training learns from a batch of images: to write their captions, or what is rewarded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from captioner.data.loader import Batch, batch_of
from captioner.data.records import Record
from captioner.losses import (
    CaptionLoss,
    caption_loss,
    doubly_stochastic_penalty,
    grounding,
    policy_gradient,
    reinforce,
)
from captioner.metrics.cider import CiderD
from captioner.models.model import CaptioningModel
from captioner.models.ragged import in_order
from captioner.rules import Rules, count_words
from captioner.search import SamplePick, pick_likeliest, take, write
from captioner.vocabulary import END, PAD, SPECIALS, START, Vocabulary, words

REWARD_UNIT = 100.0  # metrics are in percent; a reward of 1 is pycocoevalcap's 1


class Lesson(NamedTuple):
    """Captions to learn from."""

    batch: Batch
    sums: dict[str, float]  # over captions, of what is logged: `words` and `captions` at least
    advantages: Tensor | None = None  # (N, K), for captions of the model's own


class Objective(Protocol):
    """What `Trainer` asks of an objective; `model` is the model, perhaps under DDP."""

    def lesson(self, batch: Batch) -> Lesson: ...

    def loss(self, model: nn.Module, lesson: Lesson, baseline: float) -> CaptionLoss: ...


def batch_loss(
    model: nn.Module, batch: Batch, label_smoothing: float = 0.0, baseline: float = 0.0
) -> CaptionLoss:
    """The sums of equation (14), section 4.1 and `grounding` for a batch under teacher forcing."""
    logits, attended, draw, alphas = model(batch.images, batch.tokens, batch.mask)
    targets = in_order(batch.targets, batch.mask)
    loss = caption_loss(logits, targets, attended, batch.mask[..., 0], label_smoothing)
    if batch.regions is not None:
        loss = loss._replace(grounding=grounding(alphas, in_order(batch.regions, batch.mask)))
    if draw is None:
        return loss
    surrogate = reinforce(logits, targets, draw.log_prob, batch.mask, baseline, label_smoothing)
    return loss._replace(reinforce=surrogate, entropy=draw.entropy.sum())


class CrossEntropy:
    """Equation (14): the captions that people wrote are to become likelier."""

    def __init__(self, label_smoothing: float = 0.0):
        self.label_smoothing = label_smoothing

    def lesson(self, batch: Batch) -> Lesson:
        sums = {"words": batch.words, "captions": batch.captions, "named": batch.named}
        return Lesson(batch, sums)

    def loss(self, model: nn.Module, lesson: Lesson, baseline: float) -> CaptionLoss:
        return batch_loss(model, lesson.batch, self.label_smoothing, baseline)


class SelfCritical:
    r"""Self-critical sequence training (Rennie et al. 2017): the gradient of the expected reward,

        −Σ_k (r(y_k) − b_k) ∇ log p(y_k),   y_k ~ p

    for K captions that are sampled for each image. The baseline b_k is the mean reward of the
    image's other samples (`baseline` = "others", Luo 2020), or the reward of its greedy caption
    ("greedy", Rennie et al.). Neither depends on y_k, so the gradient is unbiased.

    The samples are drawn without a gradient, by the loop that all searches share, and their
    log-probabilities are then taken with one by the unroll that cross-entropy uses. Both must be
    the same p: the decoder is in eval mode in both, without dropout, and hard attention reads its
    likeliest location, so that where it looks is not learnt here; and in both `<unk>` is never
    written.
    """

    def __init__(
        self,
        model: CaptioningModel,
        rewards: CiderReward,
        samples: int = 5,
        baseline: str = "others",
        max_length: int = 30,
    ):
        self.model, self.rewards = model, rewards
        self.samples, self.baseline = samples, baseline
        self.rules = Rules(max_length, min_length=0, block_ngrams=0)

    @torch.no_grad()
    def lesson(self, batch: Batch) -> Lesson:
        """Samples captions of the batch's images, for which its own captions are not looked at.

        Of the sums `reward` and `baseline` are in percent, as the metric `cider` is.
        """
        decoder = self.model.decoder.eval()
        annotations = self.model.annotate(batch.images)
        seed = int(torch.randint(2**31, ()))  # from the generator whose state resuming restores
        pick = SamplePick(1.0, 0, 1.0, seed, annotations.device)
        drawn = write(decoder, annotations, self.samples, pick, self.rules, trace=False)
        order = count_words(drawn.words).argsort(dim=-1, descending=True, stable=True)
        captions = take(drawn.words, order)
        rewards = self.rewards(batch.items, captions)
        if self.baseline == "greedy":
            greedy = write(decoder, annotations, 1, pick_likeliest, self.rules, trace=False)
            baselines = self.rewards(batch.items, greedy.words).expand_as(rewards)
        else:
            baselines = mean_of_others(rewards)
        own = batch_of(batch.images, captions, batch.items)
        sums = {
            "words": own.words,
            "captions": own.captions,
            "reward": float(rewards.sum()),
            "baseline": float(baselines.sum()),
        }
        return Lesson(own, sums, (rewards - baselines) / REWARD_UNIT)

    def loss(self, model: nn.Module, lesson: Lesson, baseline: float) -> CaptionLoss:
        """`cross_entropy` is the surrogate whose gradient the class tells."""
        batch = lesson.batch
        logits, attended, *_ = model(batch.images, batch.tokens, batch.mask)
        advantages = in_order(lesson.advantages[..., None].expand_as(batch.mask), batch.mask)
        surrogate = policy_gradient(logits, in_order(batch.targets, batch.mask), advantages)
        penalty = doubly_stochastic_penalty(attended[batch.mask[..., 0]])
        zero = surrogate.new_zeros(())
        return CaptionLoss(surrogate, penalty, zero, zero, zero)


def mean_of_others(rewards: Tensor) -> Tensor:
    """For each of an image's K > 1 captions, (N, K), the mean reward of the others."""
    return (rewards.sum(-1, keepdim=True) - rewards) / (rewards.shape[-1] - 1)


class CiderReward:
    """CIDEr-D of captions, in percent, with `<end>` as their last word and their references'.

    Were it left out, a caption that breaks off ("a man in a") would lose nothing by it, and models
    learn to write such captions.
    """

    def __init__(self, records: Sequence[Record], vocabulary: Vocabulary):
        """records: of the items that batches number; their raw captions are the references."""
        self.vocabulary = vocabulary
        self.references = [
            [[*words(text), SPECIALS[END]] for text in record.captions] for record in records
        ]
        self.cider = CiderD(self.references)

    def __call__(self, items: Tensor, captions: Tensor) -> Tensor:
        """items: (N,), captions: (N, K, T) ids, padded → rewards (N, K), in double precision."""
        entries, count = self.vocabulary.entries, captions.shape[1]
        hypotheses = [
            [entries[i] for i in ids if i not in (PAD, START)]
            for ids in captions.flatten(0, 1).tolist()
        ]
        references = [self.references[item] for item in items.tolist() for _ in range(count)]
        scores = torch.from_numpy(self.cider(hypotheses, references))
        return scores.view(-1, count).to(captions.device)
