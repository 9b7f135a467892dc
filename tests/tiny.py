"""A captioner so small that it trains and captions within a second."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from captioner.build import build_model
from captioner.checkpoint import save_checkpoint
from captioner.config import DataOptions, DecoderOptions, EncoderOptions, TrainOptions
from captioner.data.records import Record
from captioner.data.shapes import read_shapes
from captioner.models.model import CaptioningModel
from captioner.vocabulary import Vocabulary

SIZES = {"train": 12, "val": 5, "test": 3, "novel": 3}  # scenes
SIDE = 48  # pixels of the encoder's image


class Tiny(NamedTuple):
    """An untrained model and what belongs to it."""

    options: TrainOptions
    vocabulary: Vocabulary
    model: CaptioningModel

    def save(self, folder: Path, **metrics: float) -> Path:
        save_checkpoint(folder, self.model, self.options, self.vocabulary, metrics)
        return folder


def scenes(split: str = "train") -> list[Record]:
    return read_shapes(**SIZES).split(split)


def build_tiny(seed: int = 0, tuned: bool = True, **decoder: int | float | str) -> Tiny:
    torch.manual_seed(seed)
    options = TrainOptions(
        data=DataOptions(sizes=SIZES, min_count=1),
        encoder=EncoderOptions(image_size=SIDE, fine_tune_from=0 if tuned else None),
        decoder=DecoderOptions(
            **{"hidden": 16, "embedding": 12, "attention": 8, "dropout": 0.0, **decoder}
        ),
    )
    vocabulary = Vocabulary.build(text for record in scenes() for text in record.captions)
    return Tiny(options, vocabulary, build_model(options.encoder, options.decoder, vocabulary))


def write_picture(path: Path, seed: int = 0, size: tuple[int, int] = (40, 30)) -> Path:
    """A file of random pixels; its suffix tells the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path
