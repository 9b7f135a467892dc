"""Pictures to caption, wherever they are kept: files, tars or tables."""

from __future__ import annotations

from pathlib import Path

from captioner.data.images import IMAGE_SUFFIXES, find_images
from captioner.data.parquet import ParquetMember, pictures_in_parquet
from captioner.data.readers.webdataset import files_in_tar, find_shards
from captioner.data.tar import TarMember


def find_sources(pattern: str) -> list[Path] | list[TarMember] | list[ParquetMember]:
    """Pictures in a file, a folder or a glob, or in tars or Parquet tables.

    Those end in `.tar` or `.parquet`; they may be several, as `'photos-*.tar'` or
    `'photos-{000..099}.tar'`. Raises ValueError where there is nothing.
    """
    if not pattern.endswith((".tar", ".parquet")):
        return find_images(pattern)
    shards = find_shards(Path(), pattern)
    if pattern.endswith(".parquet"):
        found = [picture for shard in shards for picture in pictures_in_parquet(shard)]
    else:
        found = [
            file
            for shard in shards
            for file, _ in files_in_tar(shard)
            if Path(file.member).suffix.lower() in IMAGE_SUFFIXES
        ]
    if not found:
        raise ValueError(f"no images in {pattern}")
    return found
