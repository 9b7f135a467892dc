"""A table of one's own: one row per caption."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

from captioner.data.readers.files import existing_folder, text_of
from captioner.data.readers.reading import Reading
from captioner.data.records import Collection, Record


def read_csv(
    file: Path | str, images: Path | str | None = None, val_fraction: float = 0.1
) -> Collection:
    """A CSV file with the columns image, caption and, if wanted, split; others are passed over.

    Images are relative to `images`, or to the file's folder; an image's id is its cell, stripped.
    Without a split column a hash of the id sends about `val_fraction` of the images to val and
    the others to train; with two images or more neither is empty.
    """
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction is {val_fraction}; it must lie between 0 and 1")
    file = Path(file)
    folder = existing_folder(file.parent if images is None else images)
    reading = Reading()
    rows = _rows(file, reading)
    header = _header(file, rows)
    for where, cells in rows:
        if len(cells) != len(header):
            count = f"{len(cells)} cells under {len(header)} columns"
            reading.problems.append(f"{where}: {count}; a caption with commas needs quotes")
            continue
        row = dict(zip(header, map(str.strip, cells), strict=True))
        image, split = row["image"], row.get("split", "train")
        if not (image and split):
            reading.problems.append(f"{where}: the image or the split is empty")
        elif reading.holds(image, split) or reading.image(image, folder / image, split, where):
            reading.caption(image, row["caption"], where)
    collection = reading.collection(file)
    if "split" not in header:
        _choose_val(collection.records, val_fraction)
    return collection


def _rows(file: Path, reading: Reading) -> Iterator[tuple[str, list[str]]]:
    """The rows that aren't blank, each behind its place."""
    # Strict, so that a stray quote is an error on its row and does not swallow the rows below it.
    reader = csv.reader(io.StringIO(text_of(file)), strict=True)
    while True:
        where = f"{file}:{reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reading.problems.append(f"{where}: {error}")
            continue
        if cells:
            yield where, cells


def _header(file: Path, rows: Iterator[tuple[str, list[str]]]) -> list[str]:
    where, cells = next(rows, (f"{file}:1", []))
    header = [name.strip().lower() for name in cells]
    if header.count("image") != 1 or header.count("caption") != 1 or header.count("split") > 1:
        raise ValueError(
            f"{where}: the header must name the columns image, caption and, if wanted, split,"
            f" with commas between; it is {','.join(cells)[:80]!r}"
        )
    return header


def _choose_val(records: list[Record], fraction: float) -> None:
    # A threshold, not a share of a sorted list: an image added later moves no other image.
    hashes = [_hash(record.image_id) for record in records]
    lowest, highest = min(hashes), max(hashes)
    for record, value in zip(records, hashes, strict=True):
        chosen = (value < fraction or value == lowest) and value != highest
        record.split = "val" if chosen else "train"


def _hash(text: str) -> float:
    """In [0, 1), and the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
