"""Pictures in Parquet tables, read in place."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

COLUMN = "image"


@dataclass(frozen=True, slots=True)
class ParquetMember:
    """A picture's bytes in a table, with what reading a picture asks of a `Path`.

    Row `row` of the group of rows `group`, the file's row `number`. Groups are read whole, and the
    last one is kept, so members are best read in their order.
    """

    file: Path
    group: int
    row: int
    number: int

    def stat(self) -> os.stat_result:
        """The table's: when that has not changed, this has not."""
        return self.file.stat()

    def open(self, mode: str = "rb") -> io.BytesIO:
        return io.BytesIO(_pictures(self.file, self.group)[self.row] or b"")

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


@lru_cache(maxsize=1)
def _pictures(file: Path, group: int) -> list[bytes | None]:
    column = import_parquet().ParquetFile(file).read_row_group(group, [COLUMN])[COLUMN]
    return [each["bytes"] if isinstance(each, dict) else each for each in column.to_pylist()]


def pictures_in_parquet(file: Path) -> list[ParquetMember] | list[Path]:
    """The pictures of the column `image`, whose values are bytes, or paths from the table's folder.

    Or, as Hugging Face's data sets have it, an object with `bytes`. Raises ValueError for a file
    that is no such table, and where pyarrow is not installed.
    """
    arrow = import_parquet()
    try:
        table = arrow.ParquetFile(file)
        kind = str(table.schema_arrow.field(COLUMN).type)
    except (OSError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{file}: no Parquet table with a column {COLUMN}: {reason}") from error
    if "string" in kind and "struct" not in kind:
        return [file.parent / (path or "") for path in table.read([COLUMN])[COLUMN].to_pylist()]
    groups = range(table.num_row_groups)
    places = ((g, row) for g in groups for row in range(table.metadata.row_group(g).num_rows))
    return [ParquetMember(file, *place, number) for number, place in enumerate(places)]


def import_parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError("Parquet needs pyarrow: pip install 'captioner[ray]'") from error
    return pyarrow.parquet
