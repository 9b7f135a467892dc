"""Captions of a whole split, decoded freely and scored once per image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from captioner.config import SearchOptions
from captioner.data.loader import ImageSource
from captioner.data.records import Record
from captioner.data.shapes import Scene
from captioner.metrics.bleu import corpus_bleu
from captioner.metrics.bootstrap import interval
from captioner.metrics.grounding import entropy, mass_inside, pointing_hit
from captioner.models.model import CaptioningModel
from captioner.search import Hypothesis, search
from captioner.vocabulary import TOKENIZER, Vocabulary, words


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
    """Scores of a split, as metrics.json has them, and its captions, as COCO results."""

    metrics: dict[str, float | int | str]
    captions: list[dict[str, str]]


def evaluate(
    decoded: Iterable[Decoded], vocabulary: Vocabulary, grid: tuple[int, int], width: int
) -> Evaluation:
    """Scores the best hypothesis of each image against its raw references.

    Generated scenes are also checked for truth and, where hypotheses carry traces, for whether
    attention was on the object being named. `grid` is (height, width) of the annotations.
    Raises ValueError when there are no images.
    """
    results, references, truths, looks = [], [], [], []
    for record, hypotheses in decoded:
        caption = vocabulary.decode(hypotheses[0].ids)
        results.append({"image_id": record.image_id, "caption": " ".join(caption)})
        references.append([words(reference) for reference in record.captions])
        if isinstance(record.image, Scene):
            reading = record.image.read(caption)
            truths.append(reading.true)
            looks += _looks(reading.mentions, hypotheses[0], grid)
    captions = [result["caption"].split() for result in results]
    metrics = {**corpus_bleu(captions, references), "tokenizer": TOKENIZER}
    metrics |= {"images": len(results), "width": width}
    metrics["words-per-caption"] = float(np.mean([len(caption) for caption in captions]))
    if truths:
        metrics |= _with_interval("true", 100 * np.array(truths, dtype=float))
    if looks:
        for i, name in enumerate(("pointing", "attention-inside")):
            metrics |= _with_interval(name, 100 * np.array([look[i] for look in looks]))
        metrics["attention-entropy"] = float(np.mean([look.entropy for look in looks]))
    return Evaluation(metrics, results)


class Look(NamedTuple):
    """How well α sat on an object when the caption named it."""

    hit: bool  # the maximum of α lies inside the object
    inside: float  # fraction of α inside
    entropy: float  # nats


def _looks(mentions: Iterable, hypothesis: Hypothesis, grid: tuple[int, int]) -> Iterator[Look]:
    if hypothesis.trace is None:
        return
    alphas = hypothesis.trace.alpha.reshape(-1, *grid).numpy()
    for mention in mentions:
        alpha = alphas[mention.index]
        hit = pointing_hit(alpha, mention.boxes)
        yield Look(hit, mass_inside(alpha, mention.boxes), entropy(alpha))


def _with_interval(name: str, values: np.ndarray) -> dict[str, float]:
    """The mean of per-item values (M,), with its 95% bootstrap interval."""
    low, high = interval(lambda counts: counts @ values / len(values), len(values))
    return {name: float(values.mean()), f"{name}-low": float(low), f"{name}-high": float(high)}
