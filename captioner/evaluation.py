"""Captions of a whole split, decoded freely and scored once per image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from captioner.config import MetricOptions, SearchOptions
from captioner.data.loader import ImageSource
from captioner.data.records import Record
from captioner.data.shapes import Scene
from captioner.metrics.grounding import entropy, mass_inside, pointing_hit
from captioner.metrics.metric import Metric, mean
from captioner.models.model import CaptioningModel
from captioner.scoring import Facts, Scores, score
from captioner.search import Hypothesis, search
from captioner.vocabulary import Vocabulary


class Decoded(NamedTuple):
    """An image with its hypotheses, best first."""

    record: Record
    hypotheses: list[Hypothesis]


class _Images:
    """Records' images in order, for a DataLoader."""

    def __init__(self, records: Sequence[Record], source: ImageSource):
        self.records = records
        self.source = source

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.source(self.records[index])


@torch.inference_mode()
def decode(
    model: CaptioningModel,
    records: Sequence[Record],
    source: ImageSource,
    options: SearchOptions,
    batch: int = 50,
    workers: int = 0,
    trace: bool = False,
) -> Iterator[Decoded]:
    """Hypotheses for each image, batched over images; the model must be in eval mode."""
    device = next(model.parameters()).device
    loader = DataLoader(_Images(records, source), batch, num_workers=workers)
    remaining = iter(records)
    for images in loader:
        annotations = model.annotate(images.to(device))
        found = search(model.decoder, annotations, **asdict(options), trace=trace)
        yield from (Decoded(next(remaining), hypotheses) for hypotheses in found)


@dataclass
class Evaluation:
    """Scores of a split, and its captions, as COCO results."""

    scores: Scores
    captions: list[dict[str, str]]

    @cached_property
    def metrics(self) -> Facts:
        """What metrics.json holds: the scores with their intervals."""
        return self.scores.with_intervals()


def checks_attention(records: Sequence[Record]) -> bool:
    """Whether `evaluate` has a use for traces: it is known where the objects are."""
    return isinstance(records[0].image, Scene)


def evaluate(
    decoded: Iterable[Decoded],
    vocabulary: Vocabulary,
    grid: tuple[int, int],
    width: int,
    options: MetricOptions,
    training: Iterable[str] = (),
) -> Evaluation:
    """Scores the best hypothesis of each image against its raw references, as `score` does.

    Where hypotheses of generated scenes carry traces, attention is checked for whether it was on
    the object being named. `grid` is (height, width) of the annotations; `training` are the
    captions trained on.
    Raises ValueError as `score` does.
    """
    records, captions, looks = [], [], []
    for record, hypotheses in decoded:
        caption = vocabulary.decode(hypotheses[0].ids)
        records.append(record)
        captions.append(" ".join(caption))
        looks.append(list(_looks(record, caption, hypotheses[0], grid)))
    scores = score(captions, records, options, training)
    scores.metrics += _grounding(looks)
    scores.facts["width"] = width
    results = [
        {"image_id": record.image_id, "caption": caption}
        for record, caption in zip(records, captions, strict=True)
    ]
    return Evaluation(scores, results)


class Look(NamedTuple):
    """How well α sat on an object when the caption named it."""

    hit: bool  # the maximum of α lies inside the object
    inside: float  # fraction of α inside
    entropy: float  # nats


def _looks(
    record: Record, caption: Sequence[str], hypothesis: Hypothesis, grid: tuple[int, int]
) -> Iterator[Look]:
    if hypothesis.trace is None or not isinstance(record.image, Scene):
        return
    alphas = hypothesis.trace.alpha.reshape(-1, *grid).numpy()
    for mention in record.image.read(caption).mentions:
        alpha = alphas[mention.index]
        hit = pointing_hit(alpha, mention.boxes)
        yield Look(hit, mass_inside(alpha, mention.boxes), entropy(alpha))


def _grounding(looks: Sequence[Sequence[Look]]) -> Iterator[Metric]:
    """Means over the looks of all images."""
    counts = np.array([len(several) for several in looks])
    if counts.any():
        kinds = {"pointing": (100, "hit"), "attention-inside": (100, "inside")}
        for name, (unit, field) in {**kinds, "attention-entropy": (1, "entropy")}.items():
            sums = [sum(getattr(look, field) for look in several) for several in looks]
            yield mean(name, unit * np.array(sums), counts)
