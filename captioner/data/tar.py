"""Files inside tars, read in place."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class TarMember:
    """A file in a tar that is not compressed, with what reading a picture asks of a `Path`.

    It is `size` bytes of the tar from `offset` on, so members can be read in any order.
    """

    tar: Path
    member: str
    offset: int
    size: int

    @property
    def name(self) -> str:
        return PurePosixPath(self.member).name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.member).stem

    def stat(self) -> os.stat_result:
        """The tar's: when that has not changed, this has not."""
        return self.tar.stat()

    def open(self, mode: str = "rb") -> io.BytesIO:
        with self.tar.open(mode) as file:
            file.seek(self.offset)
            return io.BytesIO(file.read(self.size))

    def __str__(self) -> str:
        return f"{self.tar}:{self.member}"
