"""Shards in the format of webdataset: tars, in which files of one image have one name."""

from __future__ import annotations

import glob
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

from captioner.data.images import IMAGE_SUFFIXES
from captioner.data.readers.reading import Reading
from captioner.data.records import Collection
from captioner.data.tar import TarMember

_BRACES = re.compile(r"\{([^{}]*)\}")


def read_webdataset(root: Path | str, shards: Mapping[str, str]) -> Collection:
    """Per split the shards, as `train-{000000..000099}.tar`, `{a,b}/*.tar` or a path, below `root`.

    `7.jpg` has its captions in `7.json`, as a list `captions` or one `caption`, or else in `7.txt`,
    one a line. An image's id is its shard below `root` and its name, as `train-000000/7`. Shards
    are read through once, here, for the captions and for where the images lie; each image is then
    read in place, so tars must not be compressed, and must lie on disks.
    """
    reading, root = Reading(), Path(root).expanduser()
    for split, pattern in shards.items():
        for shard in find_shards(root, pattern):
            inside = shard.relative_to(root) if shard.is_relative_to(root) else shard
            for key, files in groupby(
                files_in_tar(shard), key=lambda file: _split(file[0].member)[0]
            ):
                image_id = f"{inside.with_suffix('').as_posix()}/{key}"
                _read_sample(reading, image_id, split, dict(_by_suffix(files)))
    return reading.collection(", ".join(shards.values()))


def _read_sample(
    reading: Reading, image_id: str, split: str, files: dict[str, tuple[TarMember, bytes]]
) -> None:
    image = next((files[suffix][0] for suffix in files if suffix in IMAGE_SUFFIXES), None)
    if image is None:
        reading.problems.append(f"{image_id}: no image among {', '.join(files)}")
    elif reading.image(image_id, image, split, str(image)):
        for caption in _captions(files):
            reading.caption(image_id, caption, str(image))


def _captions(files: dict[str, tuple[TarMember, bytes]]) -> list:
    """What stands for captions; `Reading` says what can't be one."""
    try:
        content = json.loads(files[".json"][1]) if ".json" in files else {}
    except ValueError:
        content = {}
    content = content if isinstance(content, dict) else {}
    captions = content.get("captions", content.get("caption"))
    if captions is None and ".txt" in files:
        text = files[".txt"][1].decode("utf-8-sig", errors="replace")
        captions = [line for line in text.splitlines() if line.strip()]
    if captions is None:
        return []
    return captions if isinstance(captions, list) else [captions]


def files_in_tar(shard: Path) -> Iterator[tuple[TarMember, bytes]]:
    """The files of a tar in their order, with the content of those that may hold captions."""
    try:
        with tarfile.open(shard, "r:") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # or it would keep them all
                if info.isfile():
                    text = info.name.endswith((".json", ".txt"))
                    content = tar.extractfile(info).read() if text else b""
                    yield TarMember(shard, info.name, info.offset_data, info.size), content
    except tarfile.TarError as error:
        raise ValueError(f"{shard}: not a whole tar without compression: {error}") from None
    except OSError as error:
        raise ValueError(f"{shard}: {(error.strerror or str(error)).lower()}") from None


def _split(name: str) -> tuple[str, str]:
    """As webdataset does: `a/7.en.txt` → `a/7` and `.en.txt`."""
    folder, slash, file = name.rpartition("/")
    stem, dot, suffix = file.partition(".")
    return folder + slash + stem, (dot + suffix).lower()


def _by_suffix(
    files: Iterator[tuple[TarMember, bytes]],
) -> Iterator[tuple[str, tuple[TarMember, bytes]]]:
    return ((_split(file[0].member)[1], file) for file in files)


def find_shards(root: Path, pattern: str) -> list[Path]:
    """The shards that a pattern stands for. Raises ValueError where there are none."""
    if "://" in pattern or pattern.startswith("pipe:"):
        raise ValueError(f"{pattern}: shards are read in place, from disks; fetch them first")
    found = []
    for each in _alternatives(pattern):
        path = str(root / Path(each).expanduser())
        matching = sorted(glob.glob(path)) if glob.has_magic(path) else [path]  # noqa: PTH207
        if not matching:
            raise ValueError(f"{path}: no such shards")
        found += map(Path, matching)
    return found


def _alternatives(pattern: str) -> list[str]:
    """`a{08..10}` → `a08`, `a09`, `a10`; `{a,b}c` → `ac`, `bc`."""
    braces = _BRACES.search(pattern)
    if braces is None:
        return [pattern]
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", braces[1])
    if ends:
        numbers = range(int(ends[1]), int(ends[2]) + 1)
        choices = [f"{number:0{len(ends[1])}d}" for number in numbers]
    else:
        choices = braces[1].split(",")
    before, after = pattern[: braces.start()], _alternatives(pattern[braces.end() :])
    return [before + choice + rest for choice in choices for rest in after]
