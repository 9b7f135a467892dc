"""How much more memory a larger data set takes, though its features stay on the disk."""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from captioner.benchmark.contests import build_pair, decoder_shape, search_options
from captioner.benchmark.timing import peak_resident
from captioner.benchmark.updates import captions_of_flickr8k_length
from captioner.config import SizeOptions
from captioner.data.features import FeatureCache
from captioner.data.images import Transform
from captioner.data.loader import CaptionedImages, EpochBatches, ImageSource, training_loader
from captioner.data.records import Record
from captioner.evaluation import decode
from captioner.models.encoder import build_encoder
from captioner.models.model import CaptioningModel
from captioner.vocabulary import SPECIALS, Vocabulary

Use = Callable[[FeatureCache, SizeOptions], None]
"""What a process does with features."""


def resident(use: Use, images: int, sizes: SizeOptions) -> float | None:
    """Bytes that a process needs at most which does this and nothing else.

    The data set has so many images, whose features are a sparse file as long as the real one would
    be. None where the system does not tell.
    """
    with tempfile.TemporaryDirectory() as folder:
        _sparse_cache(Path(folder), images, sizes.locations, sizes.annotation)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(_peak, (use, Path(folder), sizes))


def _sparse_cache(folder: Path, images: int, locations: int, annotation: int) -> None:
    shape = (images, locations, annotation)
    # Made by its length alone: its zeros take no room.
    np.lib.format.open_memmap(folder / "features.npy", mode="w+", dtype=np.float16, shape=shape)
    index = {"shape": shape, "images": [f"image-{n}.jpg" for n in range(images)]}
    (folder / "index.json").write_text(json.dumps(index))


def _peak(use: Use, folder: Path, sizes: SizeOptions) -> float | None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # whose libraries would count
    use(FeatureCache(folder), sizes)
    return peak_resident()


def _source(cache: FeatureCache) -> ImageSource:
    return ImageSource(Transform(224, "squash"), cache)


def an_epoch(cache: FeatureCache, sizes: SizeOptions) -> None:
    """All its batches, as training has them."""
    words = Vocabulary(f"w{n}" for n in range(len(SPECIALS), sizes.vocabulary))
    names, each = cache.info["images"], sizes.per_image
    captions = [
        " ".join(words.decode(ids))
        for ids in captions_of_flickr8k_length(len(names) * each, sizes.vocabulary)
    ]
    records = [
        Record(name, Path(name), captions[n * each : (n + 1) * each], "train")
        for n, name in enumerate(names)
    ]
    items = CaptionedImages(records, words, _source(cache))
    for _ in training_loader(items, EpochBatches(items.lengths, sizes.batch)):
        pass


def a_search(cache: FeatureCache, sizes: SizeOptions) -> None:
    """Captions of all images, kept until the last is there, as for their scores."""
    decoder, _ = build_pair(decoder_shape(sizes), torch.device("cpu"))
    encoder = build_encoder("tiny", 32)  # which is not asked: the features are there
    model = CaptioningModel(encoder, decoder).for_captioning()
    records = [Record(name, Path(name), [], "val") for name in cache.info["images"]]
    kept = []
    found = decode(model, records, _source(cache), search_options(sizes), sizes.batch)
    for _, hypotheses, _ in found:
        kept.append(hypotheses[0].ids)
