"""Batches: images with all their captions, so that each image is encoded and read once."""

from __future__ import annotations

import atexit
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from captioner.data.augmentation import view_of
from captioner.data.features import FeatureCache
from captioner.data.images import Transform, open_image
from captioner.data.packed import PackedCaptions
from captioner.data.records import Record
from captioner.stopping import end_workers, leave_stopping_to_parent
from captioner.vocabulary import PAD, START, Vocabulary

POOL = 16  # batches whose images are sorted by length together

Align = Callable[[Record, Sequence[str], int], Tensor]
"""Of a record, captions of it and a view, (K, T, L): see `captioner.alignment.Alignment`."""


@dataclass
class Batch:
    """N images with up to K captions each, the longest caption of each image first.

    Images with fewer captions are filled up with empty rows; `mask` is false on padding.
    """

    images: Tensor  # uint8 pixels (N, 3, S, S), or fp16 annotations (N, L, D)
    tokens: Tensor  # (N, K, T) the words before: `<start>`, y_1, …, y_{T-1}
    targets: Tensor  # (N, K, T) the words to predict: y_1, …, y_{T-1}, `<end>`
    mask: Tensor  # (N, K, T)
    items: Tensor  # (N,) which items of `CaptionedImages` these are
    regions: Tensor | None = None  # (N, K, T, L) m of `Alignment`, of the targets, where asked for

    @property
    def captions(self) -> int:
        return int(self.mask[..., 0].sum())

    @property
    def words(self) -> int:
        return int(self.mask.sum())

    @property
    def named(self) -> int:
        """Words whose regions are known."""
        return 0 if self.regions is None else int(self.regions.any(-1).sum())

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with each of its tensors changed."""
        return Batch(*(part if part is None else change(part) for part in vars(self).values()))

    def to(self, device: torch.device) -> Batch:
        return self.each(lambda part: part.to(device, non_blocking=True))


class ImageSource:
    """What the model takes for a record's image: its cached annotations, or else its pixels."""

    def __init__(self, transform: Transform, cache: FeatureCache | None = None):
        self.transform = transform
        self.cache = cache
        self._drawn: dict[str, Tensor] = {}  # what is drawn, and not read, is drawn once

    def __call__(self, record: Record, view: int = 0) -> Tensor:
        """The record's image in one of its views, as `view_of` numbers them."""
        if self.cache is not None:
            return self.cache(record, view)
        if view or not hasattr(record.image, "draw"):
            return self.transform(view_of(open_image(record.image), record.image_id, view))
        if record.image_id not in self._drawn:
            self._drawn[record.image_id] = self.transform(open_image(record.image))
        return self._drawn[record.image_id]


class Item(NamedTuple):
    """An image with its captions, as ids that end in `<end>`, the longest first."""

    image: Tensor  # as `ImageSource` gives it
    captions: list[list[int]]
    number: int  # of `CaptionedImages`, whichever view this is
    regions: Tensor | None = None  # (K, T, L) of the captions, where asked for


class CaptionedImages:
    """Records as a PyTorch data set: an item is an image with its encoded captions.

    An index beyond the items, index + view × items, means an item in another view. `together` makes
    several items of an image, with at most so many captions each. The image is then encoded once
    per item: slower per caption, but an update sees more different images. `align` adds the regions
    that words name.
    """

    def __init__(
        self,
        records: Sequence[Record],
        vocabulary: Vocabulary,
        source: ImageSource,
        together: int | None = None,
        align: Align | None = None,
    ):
        self.source, self.align = source, align
        self.records = []  # per item
        self.texts = []  # likewise, of its captions in their order, where they are aligned

        def captions() -> Iterator[list[list[int]]]:
            for record in records:
                encoded = [(vocabulary.encode(text), text) for text in record.captions]
                step = together or len(encoded)
                for first in range(0, len(encoded), step):
                    several = encoded[first : first + step]
                    several.sort(key=lambda pair: len(pair[0]), reverse=True)
                    self.records.append(record)
                    if align is not None:
                        self.texts.append([text for _, text in several])
                    yield [ids for ids, _ in several]

        self.captions = PackedCaptions(captions())

    @property
    def lengths(self) -> list[int]:
        """Words of each item's longest caption, `<end>` counted."""
        return self.captions.first_lengths.tolist()

    @cached_property
    def hash(self) -> str:
        """16 hex digits: equal only for the same images with the same captions in their order."""
        digest = hashlib.sha256(self.captions.bytes)
        digest.update("\n".join(record.image_id for record in self.records).encode())
        return digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> Item:
        view, number = divmod(index, len(self))
        record, regions = self.records[number], None
        if self.align is not None:
            regions = self.align(record, self.texts[number], view)
        return Item(self.source(record, view), self.captions[number], number, regions)


def collate(items: Sequence[Item]) -> Batch:
    """Stacks images and pads captions."""
    images, captions, numbers, regions = zip(*items, strict=True)
    rows = max(len(several) for several in captions)
    steps = max(len(several[0]) for several in captions)
    words = torch.full((len(items), rows, 1 + steps), PAD)
    words[..., 0] = START
    for n, several in enumerate(captions):
        for k, caption in enumerate(several):
            words[n, k, 1 : 1 + len(caption)] = torch.tensor(caption)
    batch = batch_of(torch.stack(images), words, torch.tensor(numbers))
    if regions[0] is not None:
        batch.regions = torch.zeros(*batch.mask.shape, regions[0].shape[-1])
        for n, several in enumerate(regions):
            batch.regions[n, : several.shape[0], : several.shape[1]] = several
    return batch


def batch_of(images: Tensor, words: Tensor, items: Tensor) -> Batch:
    """The batch of captions (N, K, 1 + T): ids that start with `<start>` and are padded.

    Along K the longest caption must stand first.
    """
    targets = words[..., 1:]
    return Batch(images, words[..., :-1], targets, targets != PAD, items)


class EpochBatches(Sampler[list[int]]):
    """Which images form which batch: a function of seed, epoch and position, of nothing else.

    Every image comes once per epoch, in a random one of its `views`. Images are shuffled, sorted by
    their captions' lengths within pools of `POOL` batches, and cut into `updates` nearly equal
    parts, in shuffled order. With `one_length` all are sorted, and cut into parts of one length
    each, as section 4.3 of the paper has it; a length's last part is smaller. Of each part,
    `pieces` shares are made, one for each process and accumulation step; this sampler yields those
    of process `rank`.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        images: int,
        seed: int = 0,
        accumulation: int = 1,
        rank: int = 0,
        processes: int = 1,
        views: int = 1,
        one_length: bool = False,
    ):
        """lengths: as in `CaptionedImages`. images: of an update, over all processes."""
        self.lengths = np.asarray(lengths)
        self.seed, self.accumulation = seed, accumulation
        self.rank, self.processes = rank, processes
        self.views = views
        pieces = accumulation * processes
        self.updates = max(1, -(-len(lengths) // images))
        self.pools = max(1, self.updates // POOL)
        self._cuts: int | list[int] = self.updates  # as np.array_split takes them
        if one_length:
            self._cuts = _cuts_by_length(np.sort(self.lengths), images, pieces)
            self.updates, self.pools = len(self._cuts) + 1, 1
        if len(lengths) // self.updates < pieces:
            raise ValueError(
                f"{len(lengths)} images in updates of {images} do not fill {accumulation} "
                f"accumulation steps on {processes} processes; raise training.batch_images"
            )
        self.epoch = 0
        self.first = 0  # updates to leave out, when an epoch is resumed in its middle

    def at(self, epoch: int, first: int = 0) -> EpochBatches:
        """Sets which epoch the next iteration gives, and from which update on."""
        self.epoch, self.first = epoch, first
        return self

    def __len__(self) -> int:
        return (self.updates - self.first) * self.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(len(self.lengths))
        pools = np.array_split(order, self.pools)
        order = np.concatenate([pool[self.lengths[pool].argsort(kind="stable")] for pool in pools])
        updates = np.array_split(order, self._cuts)
        schedule = random.permutation(self.updates)[self.first :]
        views = random.integers(self.views, size=len(order)) * len(order)
        for update in schedule:
            pieces = np.array_split(updates[update], self.accumulation * self.processes)
            for piece in pieces[self.rank :: self.processes]:
                yield (piece + views[piece]).tolist()


def _cuts_by_length(lengths: np.ndarray, images: int, pieces: int) -> list[int]:
    """Where to cut ascending lengths so that no part holds two lengths or more than `images`.

    A part of fewer than `pieces` would leave some process without work: it joins the next.
    """
    _, starts, counts = np.unique(lengths, return_index=True, return_counts=True)
    cuts = [
        cut
        for start, count in zip(starts.tolist(), counts.tolist(), strict=True)
        for cut in range(start, start + count, images)
    ]
    kept = [0]
    for cut in [*cuts[1:], len(lengths)]:
        if cut - kept[-1] >= pieces:
            kept.append(cut)
    return kept[1:-1]


def training_loader(
    images: CaptionedImages, batches: EpochBatches, workers: int = 0
) -> DataLoader[Batch]:
    """Batches in the order that `batches` gives. It draws nothing from torch's global generator."""
    if workers:
        atexit.register(end_workers)
    return DataLoader(
        images,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=leave_stopping_to_parent,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(0),
    )
