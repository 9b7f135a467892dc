"""A frozen encoder sees every image once; its annotations are kept as memory-mapped fp16."""

from __future__ import annotations

import hashlib
import io
import json
import math
import operator
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from captioner.data.augmentation import view_of
from captioner.data.images import Transform, open_image
from captioner.data.records import Record
from captioner.files import free_space, locked, write_atomically

Progress = Callable[[Iterable, str, int], Iterable]


class FeatureCache:
    """Annotations of many images: `cache(record, view)` is an fp16 tensor (L, D).

    The file is mapped lazily, so that each loader worker maps its own, and only rows that are
    asked for are read. They are read past the mapping, whose pages, once looked at, would count as
    the process's memory until it holds the whole file.
    """

    def __init__(self, folder: Path):
        """Raises ValueError for a cache that is damaged."""
        self.folder = Path(folder)
        try:
            self.info = json.loads((self.folder / "index.json").read_text(encoding="utf-8"))
            shape = [operator.index(length) for length in self.info["shape"]]
            size = (self.folder / "features.npy").stat().st_size
            whole = size > 2 * math.prod(shape)  # by the header
            self._rows = {image_id: row for row, image_id in enumerate(self.info["images"])}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            whole = False
        if not whole:
            raise ValueError(f"the features in {self.folder} are damaged; delete them, to have new")
        self._array: np.ndarray | None = None

    def __call__(self, record: Record, view: int = 0) -> Tensor:
        if self._array is None:
            self._array = np.load(self.folder / "features.npy", mmap_mode="r")
        row = view * len(self._rows) + self._rows[record.image_id]
        mapped = self._array[row]
        start = self._array.offset + row * mapped.nbytes
        values = np.fromfile(mapped.filename, mapped.dtype, mapped.size, offset=start)
        return torch.from_numpy(values.reshape(mapped.shape))

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_array": None}  # a worker maps the file itself


def cache_key(
    encoder: nn.Module, transform: Transform, records: Sequence[Record], views: int = 1
) -> str:
    """A hash of everything the features depend on: trunk, weights, geometry, views, image files.

    A file counts by its path, size and time of change.
    """
    digest = hashlib.sha256()
    digest.update(repr((encoder.trunk, transform.size, transform.fit, views)).encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for record in records:
        digest.update(record.image_id.encode())
        if hasattr(record.image, "draw"):
            digest.update(repr(record.image).encode())
        else:
            status = record.image.stat()
            digest.update(f"{record.image} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def cache_features(
    encoder: nn.Module,
    transform: Transform,
    records: Sequence[Record],
    root: Path,
    progress: Progress,
    device: torch.device,
    batch: int = 32,
    workers: int = 0,
    views: int = 1,
) -> FeatureCache:
    """The features of all records' images, computed only where `root` does not hold them yet.

    `encoder` is an `Encoder`, with its grid and annotation size. Of each image so many `views` are
    kept, as `view_of` makes them: first all images as they are, then all in view 1, … Features are
    written under a temporary name and renamed when whole; after an interruption the next call goes
    on behind the last finished batch, and of two processes one waits for the other. Raises
    ValueError when the disk is too small, and ImageError for an image that can't be read.
    """
    folder = Path(root) / cache_key(encoder, transform, records, views)
    shape = (views * len(records), encoder.grid.height * encoder.grid.width, encoder.annotation)
    if not (folder / "index.json").exists():
        if not (folder / "features.npy.partial").exists():
            _require_space(root, 2 * math.prod(shape))
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, wait=True):
            if not (folder / "index.json").exists():
                pixels = _Pixels(records, transform)
                _fill(folder, encoder.folded().to(device), pixels, shape, progress, batch, workers)
                index = {"shape": shape, "images": [record.image_id for record in records]}
                write_atomically(folder / "index.json", json.dumps(index))
    return FeatureCache(folder)


def _fill(
    folder: Path,
    encoder: nn.Module,
    pixels: _Pixels,
    shape: tuple[int, int, int],
    progress: Progress,
    batch: int,
    workers: int,
) -> None:
    """Writes features.npy; `done` keeps how many rows of it are, until all are."""
    partial, done_file = folder / "features.npy.partial", folder / "done"
    done = int(done_file.read_text()) if done_file.exists() and partial.exists() else 0
    header = io.BytesIO()
    kind = {"descr": "<f2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, kind)
    images = DataLoader(
        Subset(pixels, range(done, shape[0])),
        batch,
        num_workers=workers,
        generator=torch.Generator(),  # a run that finds all cached must draw the same dropout
    )
    with partial.open("r+b" if done else "wb") as file:
        file.write(header.getvalue())
        file.seek(2 * done * shape[1] * shape[2], os.SEEK_CUR)
        for several in progress(images, "features", len(images)):
            with torch.inference_mode():
                annotations = encoder(several.to(encoder.mean.device))
            # Not through a mapping, where a full disk is no error but the end of the process.
            file.write(annotations.half().cpu().numpy().tobytes())
            file.flush()
            os.fsync(file.fileno())
            done += len(several)
            write_atomically(done_file, str(done))
    partial.replace(folder / "features.npy")
    done_file.unlink()


class _Pixels:
    """The pixels for each row of the features, for a DataLoader."""

    def __init__(self, records: Sequence[Record], transform: Transform):
        self.records, self.transform = records, transform

    def __getitem__(self, row: int) -> Tensor:
        view, number = divmod(row, len(self.records))
        record = self.records[number]
        return self.transform(view_of(open_image(record.image), record.image_id, view))


def _require_space(root: Path, needed: int) -> None:
    """Raises ValueError unless the disk under `root` has `needed` bytes, and a tenth more, free."""
    free = free_space(root)
    if free < 1.1 * needed:
        raise ValueError(
            f"the feature cache needs {needed / 1e9:.2f} GB and the disk of {root} has "
            f"{free / 1e9:.2f} GB free; name another folder with data.cache"
        )
