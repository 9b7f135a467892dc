"""What a data set is made of: an image, its captions, and the regions that its words name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from PIL import Image

from captioner.data.tar import TarMember

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, as fractions in [0, 1] of the image's width and height."""


def on_the_image(boxes: Iterable[Box]) -> list[Box]:
    """The parts of boxes that lie on the image; what lies beyond is left out."""
    cut = (tuple(min(max(edge, 0.0), 1.0) for edge in box) for box in boxes)
    return [box for box in cut if box[0] < box[2] and box[1] < box[3]]


class Drawable(Protocol):
    """An image that is drawn rather than read, such as a generated scene."""

    def draw(self, size: int = ...) -> Image.Image: ...


@dataclass
class Mention:
    """The word at `index` of a caption names what lies in `boxes`."""

    index: int
    boxes: list[Box]


class Regions(Protocol):
    """Where in one picture lies what words name."""

    @property
    def shape(self) -> tuple[int, int]:
        """The picture's width and height, in any unit."""

    def mentions(self, words: Sequence[str]) -> list[Mention]:
        """Of a caption, as lower-cased words without punctuation; in the order of the words."""


@dataclass(slots=True)
class Record:
    """One image with its reference captions.

    `image_id` is unique in its collection and is what results name the image by. `captions` are
    raw text, cased and punctuated as their file has them. `regions` are there where it is known
    which part of the image words name.
    """

    image_id: str
    image: Path | TarMember | Drawable
    captions: list[str]
    split: str
    regions: Regions | None = None


@dataclass
class Collection:
    """The records of a data set, and what its reader had to leave out.

    `problems` holds one line per thing left out, each naming its file and line or its image.
    """

    records: list[Record]
    problems: list[str] = field(default_factory=list)

    def split(self, name: str, limit: int | None = None) -> list[Record]:
        """The records of one split, in file order, the first `limit` where one is given.

        Raises ValueError when the collection has no such split.
        """
        found = [record for record in self.records if record.split == name]
        if not found:
            raise ValueError(f"no split {name!r} in this data; it has {', '.join(self.splits())}")
        return found[:limit]

    def captions(self, split: str, limit: int | None = None) -> list[str]:
        """The captions of a split, of its first `limit` records; none without such a split."""
        records = [record for record in self.records if record.split == split][:limit]
        return [caption for record in records for caption in record.captions]

    def splits(self) -> list[str]:
        """Names of the splits, in order of first appearance."""
        return unique(record.split for record in self.records)


def unique(items: Iterable[str]) -> list[str]:
    """The distinct items, in order of first appearance."""
    return list(dict.fromkeys(items))
