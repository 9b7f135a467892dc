"""Captions of a split, whoever wrote them, scored against its raw references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from captioner.config import MetricOptions
from captioner.data.records import Record
from captioner.data.shapes import Scene
from captioner.metrics.bleu import bleu
from captioner.metrics.cider import cider
from captioner.metrics.diversity import diversity, novelty
from captioner.metrics.java import PTB_TOKENIZER, UnavailableError, meteor, ptb_words, spice
from captioner.metrics.metric import Metric, Words, estimates, mean, with_intervals
from captioner.metrics.rouge import rouge_l
from captioner.vocabulary import TOKENIZER, words

Facts = dict[str, float | int | str]
TOKENIZERS = {"words": TOKENIZER, "ptb": PTB_TOKENIZER}


@dataclass
class Scores:
    """What captions of N images are worth, under the names of metrics.json."""

    metrics: list[Metric]  # what can be taken of any selection of the images
    facts: Facts  # what belongs to the captions as a whole
    skipped: list[str]  # a line for each metric that was asked for and can't be had

    def estimates(self) -> Facts:
        """All scores, without the intervals, which take a bootstrap."""
        return {**estimates(self.metrics), **self.facts}

    def with_intervals(self) -> Facts:
        """All scores, with `<name>-low` and `<name>-high`, the ends of the 95% interval."""
        return {**with_intervals(self.metrics), **self.facts}


def score(
    captions: Sequence[str],
    records: Sequence[Record],
    options: MetricOptions,
    training: Iterable[str] = (),
) -> Scores:
    """Scores a caption of each record; where `training` has captions, also how many are novel.

    Captions of generated scenes are checked for truth too.
    Raises ValueError when there are no images, or where the tokenizer needs Java and has none.
    """
    hypotheses, training = list(_tokenized(captions, options)), list(training)
    flat = iter(_tokenized((text for record in records for text in record.captions), options))
    references = [[next(flat) for _ in record.captions] for record in records]
    metrics = [metric(hypotheses, references) for metric in (bleu, cider, rouge_l)]
    skipped = []
    for metric in (meteor, spice) if options.java else ():
        try:
            metrics.append(metric(hypotheses, references, options.time_limit))
        except UnavailableError as error:
            skipped.append(str(error))
    metrics.append(mean("words-per-caption", np.array([len(words) for words in hypotheses])))
    if training:  # tokenized one by one, since COCO's take much memory as lists of words
        metrics.append(novelty(hypotheses, _tokenized(training, options)))
    metrics += _truth(captions, records)
    named = {"tokenizer": TOKENIZERS[options.tokenizer], "images": len(records)}
    return Scores(metrics, {**diversity(hypotheses), **named}, skipped)


def check_tokenizer(options: MetricOptions) -> None:
    """Raises ValueError where the tokenizer can't be had, before captions are decoded for it."""
    _tokenized(["a"], options)


def _tokenized(texts: Iterable[str], options: MetricOptions) -> Iterable[Words]:
    if options.tokenizer == "ptb":
        return ptb_words(list(texts), options.time_limit)
    return map(words, texts)


def _truth(captions: Sequence[str], records: Sequence[Record]) -> Iterator[Metric]:
    if all(isinstance(record.image, Scene) for record in records):
        read = [record.image.read(words(c)) for c, record in zip(captions, records, strict=True)]
        yield mean("true", 100 * np.array([reading.true for reading in read]))
