"""Captions of a whole split, decoded freely and scored once per image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from captioner.attention_scores import Tally, look, means
from captioner.config import MetricOptions, SearchOptions
from captioner.data.images import Transform
from captioner.data.loader import ImageSource
from captioner.data.records import Record
from captioner.data.shapes import Scene
from captioner.grid import Grid
from captioner.models.model import CaptioningModel
from captioner.scoring import Facts, Scores, score
from captioner.search import Hypothesis, search
from captioner.vocabulary import Vocabulary

Probe = Callable[[Sequence[Record], Tensor, Sequence[Hypothesis]], list[Tally]]
"""Asks something of a batch's records, annotations (N, L, D) and best hypotheses."""


class Decoded(NamedTuple):
    """An image with its hypotheses, best first, and what a probe found of them."""

    record: Record
    hypotheses: list[Hypothesis]
    probed: Tally = {}  # noqa: RUF012  (never changed)


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
    batch: int = 100,
    workers: int = 0,
    trace: bool = False,
    probe: Probe | None = None,
) -> Iterator[Decoded]:
    """Hypotheses for each image, batched over images; the model must be in eval mode."""
    device = next(model.parameters()).device
    loader = DataLoader(_Images(records, source), batch, num_workers=workers)
    remaining = iter(records)
    for images in loader:
        batch_records = list(islice(remaining, len(images)))
        with model.arithmetic():
            annotations = model.annotate(images.to(device))
            found = search(model.decoder, annotations, **asdict(options), trace=trace)
            best = [hypotheses[0] for hypotheses in found]
            probed = probe(batch_records, annotations, best) if probe else [{} for _ in found]
        yield from map(Decoded, batch_records, found, probed)


@dataclass
class Evaluation:
    """Scores of a split, and its captions, as COCO results."""

    scores: Scores
    captions: list[dict[str, int | str]]

    @cached_property
    def metrics(self) -> Facts:
        """What metrics.json holds: the scores with their intervals."""
        return self.scores.with_intervals()


def checks_attention(records: Sequence[Record]) -> bool:
    """Whether training should look at attention: it is sure where the objects are."""
    return isinstance(records[0].image, Scene)


def evaluate(
    decoded: Iterable[Decoded],
    vocabulary: Vocabulary,
    grid: Grid,
    transform: Transform,
    options: SearchOptions,
    metrics: MetricOptions,
    training: Iterable[str] = (),
) -> Evaluation:
    """Scores the best hypothesis of each image against its raw references, as `score` does.

    Where hypotheses carry traces, their attention is scored too, as `look` does. `grid` and
    `transform` are the encoder's, `options` the search's; `training` are the captions trained on.
    Raises ValueError as `score` does.
    """
    records, captions, tallies = [], [], []
    for record, (best, *_), probed in decoded:
        caption = vocabulary.decode(best.ids)
        records.append(record)
        captions.append(" ".join(caption))
        looked = look(record, caption, best.trace, grid, transform) if best.trace else {}
        tallies.append(looked | probed)
    scores = score(captions, records, metrics, training)
    scores.metrics += means(tallies)
    scores.facts["width"] = options.width
    if options.consensus:
        scores.facts["consensus"] = options.consensus
    results = [
        {"image_id": coco_id(record.image_id), "caption": caption}
        for record, caption in zip(records, captions, strict=True)
    ]
    return Evaluation(scores, results)


def coco_id(image_id: str) -> int | str:
    """The number that COCO's evaluation server wants, where an image's id is one; else the id."""
    number = image_id.isascii() and image_id.isdecimal() and str(int(image_id)) == image_id
    return int(image_id) if number else image_id
