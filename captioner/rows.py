"""Captions of files as rows: JSON lines, a table, or what COCO's evaluation server takes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from captioner.caption import Caption
from captioner.data.images import ImageError
from captioner.data.parquet import import_parquet
from captioner.files import whole_file, whole_text

Row = dict[str, Any]
TOGETHER = 10_000  # rows of a table that are written at once


def as_row(image: object, result: Caption | ImageError) -> Row:
    """`image` and `caption`, `words`, `log_prob`, or, of one that can't be read, `error`."""
    row = {"image": str(image)}
    if isinstance(result, ImageError):
        return row | {"error": str(result)}
    return row | {"caption": result.text, "words": result.words, "log_prob": result.log_prob}


@dataclass
class Counts:
    """Of the rows that were written."""

    captions: int = 0
    errors: int = 0

    def count(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self.captions += "error" not in row
            self.errors += "error" in row
            yield row


def write_rows(rows: Iterable[Row], out: str) -> Counts:
    """Writes rows as they come, to a file that appears when it is whole.

    The end of `out` tells the form: `.json` a list of COCO results, with errors on stderr;
    `.parquet` a table, which takes pyarrow; any other JSON lines; `-` is standard output.
    """
    counts = Counts()
    rows = counts.count(rows)
    if out == "-":
        sys.stdout.writelines(_lines(rows))
    elif out.endswith(".parquet"):
        _write_table(rows, Path(out))
    else:
        with whole_text(Path(out)) as file:
            file.writelines(_results(rows) if out.endswith(".json") else _lines(rows))
    return counts


def _lines(rows: Iterable[Row]) -> Iterator[str]:
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _results(rows: Iterable[Row]) -> Iterator[str]:
    results = []
    for row in rows:
        if "error" in row:
            print(f"left out: {row['error']}", file=sys.stderr)
        else:
            image_id = coco_image_id(Path(row["image"]).stem)
            results.append({"image_id": image_id, "caption": row["caption"]})
    yield json.dumps(results, indent=0, ensure_ascii=False) + "\n"


def _write_table(rows: Iterator[Row], path: Path) -> None:
    """A column for each key of the rows, null where a row lacks it."""
    parquet = import_parquet()
    import pyarrow as arrow

    text = arrow.string()
    columns = {"image": text, "caption": text, "words": arrow.list_(text)}
    schema = arrow.schema({**columns, "log_prob": arrow.float64(), "error": text})
    with whole_file(path) as part, parquet.ParquetWriter(part, schema) as writer:
        while some := list(islice(rows, TOGETHER)):
            writer.write_table(arrow.Table.from_pylist(some, schema))


def coco_image_id(stem: str) -> int | str:
    """The number in the name of an image of COCO, as COCO_val2014_000000391895; else the stem."""
    named = re.fullmatch(r"(?:COCO_(?:train|val|test)\d{4}_)?0*(\d+)", stem, re.ASCII)
    return int(named[1]) if named else stem
