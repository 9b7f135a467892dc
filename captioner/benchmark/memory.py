"""How much more memory a larger data set takes, though its features stay on the disk."""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
from pathlib import Path

import numpy as np

from captioner.benchmark.timing import peak_resident
from captioner.benchmark.updates import captions_of_flickr8k_length
from captioner.data.features import FeatureCache
from captioner.data.images import Transform
from captioner.data.loader import CaptionedImages, EpochBatches, ImageSource, training_loader
from captioner.data.records import Record
from captioner.vocabulary import SPECIALS, Vocabulary


def resident_of_epoch(
    images: int, locations: int, annotation: int, vocabulary: int, per_image: int, batch: int
) -> float | None:
    """Bytes that one epoch's batches need at most, in a process that does nothing else.

    The data set has so many images, whose features are a sparse file as long as the real one would
    be. None where the system does not tell.
    """
    with tempfile.TemporaryDirectory() as folder:
        _sparse_cache(Path(folder), images, locations, annotation)
        arguments = (Path(folder), vocabulary, per_image, batch)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(_run_epoch, arguments)


def _sparse_cache(folder: Path, images: int, locations: int, annotation: int) -> None:
    shape = (images, locations, annotation)
    # Made by its length alone: its zeros take no room.
    np.lib.format.open_memmap(folder / "features.npy", mode="w+", dtype=np.float16, shape=shape)
    index = {"shape": shape, "images": [f"image-{n}.jpg" for n in range(images)]}
    (folder / "index.json").write_text(json.dumps(index))


def _run_epoch(folder: Path, vocabulary: int, per_image: int, batch: int) -> float | None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # whose libraries would count
    cache = FeatureCache(folder)
    words = Vocabulary(f"w{n}" for n in range(len(SPECIALS), vocabulary))
    names = cache.info["images"]
    captions = [
        " ".join(words.decode(ids))
        for ids in captions_of_flickr8k_length(len(names) * per_image, vocabulary)
    ]
    records = [
        Record(name, Path(name), captions[n * per_image : (n + 1) * per_image], "train")
        for n, name in enumerate(names)
    ]
    items = CaptionedImages(records, words, ImageSource(Transform(224, "squash"), cache))
    for _ in training_loader(items, EpochBatches(items.lengths, batch)):
        pass
    return peak_resident()
