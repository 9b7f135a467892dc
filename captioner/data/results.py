"""Captions of a data set's images in COCO's results format, from whoever wrote them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from captioner.data.readers.files import in_one_line, json_of
from captioner.data.records import Record

NAMED = 100  # images, in an error; more are counted


def read_results(file: Path, records: Sequence[Record]) -> list[str]:
    """The caption of each record, from a JSON list of `{"image_id": …, "caption": …}`.

    An image_id is the record's id or the name of its file, with or without the suffix; a number may
    lack its leading zeros and its quotes.
    Raises ValueError for a file that is no such list, and where not every record has exactly one
    caption or a caption belongs to none; it names the images.
    """
    places, captions = _places(records), {}
    strangers, again = [], []
    for image_id, caption in _entries(file):
        place = places.get(image_id)
        if place is None:
            strangers.append(image_id)
        elif place in captions:
            again.append(image_id)
        else:
            captions[place] = caption
    missing = [each.image_id for place, each in enumerate(records) if place not in captions]
    problems = {"no caption of": missing, "no such image:": strangers, "a second one of": again}
    if any(problems.values()):
        told = [f"{what} {_list(images)}" for what, images in problems.items() if images]
        split = f"the {len(records)} images of split {records[0].split}"
        raise ValueError(f"{file} does not fit {split}: {'; '.join(told)}")
    return [captions[place] for place in range(len(records))]


def _entries(file: Path) -> Iterator[tuple[str, str]]:
    """image_id and caption of each entry."""
    content = json_of(file)
    if not isinstance(content, list):
        raise ValueError(f"{file}: needs a JSON list of objects with image_id and caption")
    for i, entry in enumerate(content):
        entry = entry if isinstance(entry, dict) else {}
        image_id, caption = entry.get("image_id"), entry.get("caption")
        if type(image_id) not in (int, str) or not isinstance(caption, str):
            raise ValueError(f"{file}: [{i}] needs an image_id and a caption")
        yield str(image_id), caption


def _places(records: Sequence[Record]) -> dict[str, int]:
    """Where the record is that a name stands for; a name that could mean two stands for none."""
    meant = defaultdict(set)
    for place, record in enumerate(records):
        names = [record.image_id]
        if not hasattr(record.image, "draw"):
            names += [record.image.name, record.image.stem]
        for name in names:
            meant[name].add(place)
            if name.isdecimal():
                meant[str(int(name))].add(place)
    unambiguous = {name: next(iter(those)) for name, those in meant.items() if len(those) == 1}
    return unambiguous | {record.image_id: place for place, record in enumerate(records)}


def _list(images: Iterable[str]) -> str:
    images = list(images)
    more = f" and {len(images) - NAMED} more" if len(images) > NAMED else ""
    return ", ".join(map(in_one_line, images[:NAMED])) + more
