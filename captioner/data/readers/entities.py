"""Flickr30k Entities: boxes of what the phrases of Flickr30k's captions name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree

from captioner.data.readers.files import existing_folder, lines_of
from captioner.data.records import Box, Mention, Record
from captioner.vocabulary import FUNCTION_WORDS, words

_OPENING = "[/EN#"
_PHRASE = re.compile(r"\[/EN#(\d+)(?:/[^\s/\]]+)+ ([^\[\]]+)\]")  # its chain's id, and its words


@dataclass
class Entities:
    """One picture's `Regions`.

    A caption that is one of `sentences` has their phrases' own boxes. In any other, a word names
    what the phrases that end in this word do, in whichever sentence they stand: it is ungrounded
    where it names something else, or says it with another word. So localisation is scored of what
    was named correctly, as F1_loc of Zhou et al. 2019 ("Grounded video description", CVPR) does.
    """

    shape: tuple[int, int]  # width and height in pixels
    sentences: dict[tuple[str, ...], list[Mention]]

    def mentions(self, caption: Sequence[str]) -> list[Mention]:
        known = self.sentences.get(tuple(caption))
        if known is not None:
            return known
        named = self._named
        return [Mention(i, named[word]) for i, word in enumerate(caption) if word in named]

    @cached_property
    def _named(self) -> dict[str, list[Box]]:
        """By the last words of phrases."""
        named: dict[str, list[Box]] = {}
        for sentence, mentions in self.sentences.items():
            for mention in mentions:
                boxes = named.setdefault(sentence[mention.index], [])
                boxes += [box for box in mention.boxes if box not in boxes]
        return named


def read_entities(folder: Path | str, records: Sequence[Record]) -> list[str]:
    """Gives records their regions; returns a line for each that it has to leave without, and why.

    `folder` holds `Annotations/<image>.xml` and `Sentences/<image>.txt` as published (Plummer et
    al. 2015, "Flickr30k Entities", ICCV), <image> being the image file's name without its suffix.
    Raises ValueError where it has none of the images.
    """
    annotations, sentences = (
        existing_folder(Path(folder, n)) for n in ("Annotations", "Sentences")
    )
    problems = []
    for record in records:
        name = record.image.stem
        try:
            shape, boxes = _read_boxes(annotations / f"{name}.xml")
            found = _read_sentences(sentences / f"{name}.txt", boxes)
        except ValueError as error:
            problems.append(f"regions of {record.image_id}: {error}")
        else:
            record.regions = Entities(shape, found)
    if len(problems) == len(records):
        raise ValueError(f"{folder} has regions of none of the images; {problems[0]}")
    return problems


def _read_boxes(file: Path) -> tuple[tuple[int, int], dict[str, list[Box]]]:
    """The picture's width and height, and by chain the boxes of what it names, as fractions."""
    try:
        root = ElementTree.parse(file).getroot()  # noqa: S314  (expat bounds how entities unfold)
    except OSError as error:
        raise ValueError(f"{file}: {(error.strerror or str(error)).lower()}") from None
    except ElementTree.ParseError as error:
        raise ValueError(f"{file}: not XML: {error}") from None
    width, height = (_number(root, f"size/{side}", file) for side in ("width", "height"))
    boxes: dict[str, list[Box]] = {}
    for thing in root.iter("object"):
        bounds = thing.find("bndbox")
        if bounds is None:  # the whole scene, or nothing that can be seen
            continue
        # Pixels are counted from 1, and the last one belongs to the box.
        left, top = (_number(bounds, name, file) - 1 for name in ("xmin", "ymin"))
        right, bottom = (_number(bounds, name, file) for name in ("xmax", "ymax"))
        if not (left < right and top < bottom):
            raise ValueError(f"{file}: a box without width or height")
        box = (left / width, top / height, right / width, bottom / height)
        for name in thing.findall("name"):
            boxes.setdefault((name.text or "").strip(), []).append(box)
    return (width, height), boxes


def _number(element: ElementTree.Element, path: str, file: Path) -> int:
    text = element.findtext(path, "").strip()
    if not text.isdecimal() or (path.startswith("size") and int(text) == 0):
        raise ValueError(f"{file}: needs a number of pixels in <{path}>, got {text!r}")
    return int(text)


def _read_sentences(
    file: Path, boxes: dict[str, list[Box]]
) -> dict[tuple[str, ...], list[Mention]]:
    """Each sentence's words, and where the last words of its phrases lie."""
    sentences = {}
    for where, line in lines_of(file):
        # Text, then a chain and its phrase and the text behind it, again and again.
        text, *rest = _PHRASE.split(line.replace(" 's", "'s"))
        said, mentions = words(text), []
        for chain, phrase, behind in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
            said += (named := words(phrase))
            if chain in boxes and named and named[-1] not in FUNCTION_WORDS:
                mentions.append(Mention(len(said) - 1, boxes[chain]))
            said += words(behind)
        if any(_OPENING in part for part in (text, *rest[2::3])):
            raise ValueError(f"{where}: a phrase must be [/EN#<chain>/<type> <words>]")
        sentences[tuple(said)] = mentions
    return sentences
