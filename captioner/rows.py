"""Captions of files as rows: JSON lines, or results as COCO's evaluation server takes them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TextIO

from captioner.caption import Caption
from captioner.data.images import ImageError
from captioner.files import whole_text

Row = dict[str, Any]


def as_row(image: object, result: Caption | ImageError) -> Row:
    """`image` and `caption`, `words`, `log_prob`, or, of one that can't be read, `error`."""
    row = {"image": str(image)}
    if isinstance(result, ImageError):
        return row | {"error": str(result)}
    return row | {"caption": result.text, "words": result.words, "log_prob": result.log_prob}


def write_rows(rows: Iterable[Row], out: str) -> tuple[int, int]:
    """Writes rows as they come; returns how many captions there were, and how many errors.

    To a file of JSON lines, which appears when it is whole; to `-`, standard output; or, where
    `out` ends in `.json`, as a list of COCO results, with errors on stderr.
    """
    write = _results if out.endswith(".json") else _lines
    with nullcontext(sys.stdout) if out == "-" else whole_text(Path(out)) as file:
        return write(rows, file)


def _lines(rows: Iterable[Row], file: TextIO) -> tuple[int, int]:
    counts = [0, 0]
    for row in rows:
        counts["error" in row] += 1
        print(json.dumps(row, ensure_ascii=False), file=file)
    return counts[0], counts[1]


def _results(rows: Iterable[Row], file: TextIO) -> tuple[int, int]:
    results, errors = [], 0
    for row in rows:
        if "error" in row:
            errors += 1
            print(f"left out: {row['error']}", file=sys.stderr)
        else:
            image_id = coco_image_id(Path(row["image"]).stem)
            results.append({"image_id": image_id, "caption": row["caption"]})
    json.dump(results, file, indent=0, ensure_ascii=False)
    return len(results), errors


def coco_image_id(stem: str) -> int | str:
    """The number in the name of an image of COCO, as COCO_val2014_000000391895; else the stem."""
    named = re.fullmatch(r"(?:COCO_(?:train|val|test)\d{4}_)?0*(\d+)", stem, re.ASCII)
    return int(named[1]) if named else stem
