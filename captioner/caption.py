"""A caption, and what all that write captions have in common, whatever computes them.

Nothing here needs torch: exported models do without.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from captioner.data.images import ImageError, Transform, open_image
from captioner.data.parquet import ParquetMember
from captioner.data.records import Drawable
from captioner.data.tar import TarMember
from captioner.grid import Centres, Grid
from captioner.vocabulary import Vocabulary

Source = str | Path | TarMember | ParquetMember | Image.Image | Drawable

GATES = ("input", "forget", "output", "candidate", "cell", "hidden")


@dataclass
class Caption:
    """A caption of T words, with what the decoder saw and decided at each of them."""

    image: str  # the image's path, or what it is called
    text: str
    words: list[str]  # T
    log_prob: float  # natural logarithm of the caption's probability, its end included
    word_log_probs: np.ndarray  # (T,)
    alpha: np.ndarray  # (T, H, W) attention weights over the grid; each sums to one
    centres: Centres  # of the grid's rows and columns, on the square that the encoder saw
    beta: np.ndarray | None  # (T,) gate on the context vector (a vector β's mean), if there is one
    gates: dict[str, np.ndarray]  # (T, hidden): input, forget, output, candidate, cell, hidden
    alternatives: list[Caption] = field(default_factory=list)  # the next best, best first


class CaptionWriter(ABC):
    """Anything that captions pictures."""

    def __init__(self, vocabulary: Vocabulary, transform: Transform, grid: Grid, gated: bool):
        """`gated` says whether there is a β."""
        self.vocabulary = vocabulary
        self.transform = transform
        self.grid = grid
        self.gated = gated

    @abstractmethod
    def caption(self, images: Sequence[Source]) -> list[Caption]:
        """The best caption of each picture, all in one batch. Raises ImageError."""

    def expect(self, pictures: int) -> None:  # noqa: B027  (nothing is what most do)
        """Gets ready for so many, which may take time and save more."""

    def __call__(self, image: Source) -> Caption:
        """The best caption of one picture. Raises ImageError where it can't be read."""
        return self.caption([image])[0]

    def stream(self, images: Iterable[Source], batch: int = 32) -> Iterator[Caption | ImageError]:
        """For each picture in order its caption, or the error of one that can't be read."""
        images = iter(images)
        while sources := list(islice(images, batch)):
            opened = [_try_open(source) for source in sources]
            captions = iter(self.caption([p for p in opened if not isinstance(p, ImageError)]))
            for source, picture in zip(sources, opened, strict=True):
                if isinstance(picture, ImageError):
                    yield picture
                else:
                    caption = next(captions)
                    yield replace(caption, image=name_of(source))

    def compose(
        self,
        image: str,
        ids: Sequence[int],
        log_prob: float,
        word_log_probs: np.ndarray,
        trace: Mapping[str, np.ndarray],
    ) -> Caption:
        """A Caption of word ids; trace: the fields of `decoder.Trace`, each (T, ·)."""
        words = self.vocabulary.decode(ids)
        return Caption(
            image=image,
            text=" ".join(words),
            words=words,
            log_prob=log_prob,
            word_log_probs=word_log_probs,
            alpha=trace["alpha"].reshape(-1, self.grid.height, self.grid.width),
            centres=self.grid.centres,
            beta=trace["beta"].mean(-1) if self.gated else None,
            gates={gate: trace[gate] for gate in GATES},
        )


def name_of(source: Source) -> str:
    """What results call a picture: its path as given, or its kind."""
    if isinstance(source, (str, Path, TarMember, ParquetMember)):
        return str(source)
    return getattr(source, "filename", None) or type(source).__name__


def with_alternatives(captions: Iterable[Caption]) -> Caption:
    """The first of an image's captions, the others as its alternatives."""
    best, *best.alternatives = captions
    return best


def _try_open(source: Source) -> Image.Image | ImageError:
    try:
        return open_image(source)
    except ImageError as error:
        return error
