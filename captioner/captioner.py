"""What a user imports: `Captioner.load(path)(image)` gives a caption and all that led to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from captioner.build import build_device, build_transform, restore_model
from captioner.checkpoint import open_checkpoint
from captioner.config import SearchOptions
from captioner.data.images import ImageError, Transform, open_image
from captioner.data.records import Drawable
from captioner.data.tar import TarMember
from captioner.grid import Centres, Grid
from captioner.models.model import CaptioningModel
from captioner.search import Hypothesis, search
from captioner.vocabulary import Vocabulary

Source = str | Path | TarMember | Image.Image | Drawable


@dataclass
class Caption:
    """A caption of T words, with what the decoder saw and decided at each of them."""

    image: str  # the image's path, or what it is called
    text: str
    words: list[str]  # T
    log_prob: float  # natural logarithm of the caption's probability, its end included
    word_log_probs: np.ndarray  # (T,)
    alpha: np.ndarray  # (T, H, W) attention weights over the grid; each sums to one
    centres: Centres  # of the grid's rows and columns, on the square that the encoder saw
    beta: np.ndarray | None  # (T,) gate on the context vector (a vector β's mean), if there is one
    gates: dict[str, np.ndarray]  # (T, hidden): input, forget, output, candidate, cell, hidden
    alternatives: list[Caption] = field(default_factory=list)  # the next best, best first


class Captioner:
    """A trained model, ready for pictures."""

    def __init__(
        self,
        model: CaptioningModel,
        vocabulary: Vocabulary,
        transform: Transform,
        options: SearchOptions | None = None,
        gated: bool = True,
    ):
        """`options` are the search's defaults; `gated` says whether the model has a β."""
        self.model = model.eval()
        self.vocabulary = vocabulary
        self.transform = transform
        self.options = options or SearchOptions()
        self.gated = gated

    @classmethod
    def load(
        cls, checkpoint: str | Path, device: str | None = None, options: SearchOptions | None = None
    ) -> Captioner:
        """Reads a checkpoint folder and nothing else. Raises ValueError where it is not whole."""
        opened = open_checkpoint(checkpoint)
        decoder = opened.options.decoder
        model = restore_model(opened, build_device(device))
        model.encoder = model.encoder.folded()
        return cls(
            model,
            opened.vocabulary,
            build_transform(opened.options.encoder),
            options,
            gated=decoder.beta != "none" or decoder.attention_kind == "adaptive",
        )

    @property
    def grid(self) -> Grid:
        return self.model.encoder.grid

    def __call__(self, image: Source) -> Caption:
        """The best caption of one picture. Raises ImageError where it can't be read."""
        return self.caption([image])[0]

    def caption(self, images: Sequence[Source]) -> list[Caption]:
        """The best caption of each picture, all in one batch. Raises ImageError."""
        if not images:
            return []
        pixels = torch.stack([self.transform(open_image(image)) for image in images])
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            annotations = self.model.annotate(pixels.to(device))
            found = search(self.model.decoder, annotations, **asdict(self.options), trace=True)
        return [
            self.describe(hypotheses, name_of(image))
            for image, hypotheses in zip(images, found, strict=True)
        ]

    def stream(self, images: Iterable[Source], batch: int = 32) -> Iterator[Caption | ImageError]:
        """For each picture in order its caption, or the error of one that can't be read."""
        images = iter(images)
        while sources := list(islice(images, batch)):
            opened = [_try_open(source) for source in sources]
            captions = iter(self.caption([p for p in opened if not isinstance(p, ImageError)]))
            for source, picture in zip(sources, opened, strict=True):
                if isinstance(picture, ImageError):
                    yield picture
                else:
                    caption = next(captions)
                    yield replace(caption, image=name_of(source))

    def describe(self, hypotheses: Sequence[Hypothesis], image: str) -> Caption:
        """The best of an image's hypotheses as a Caption, the others as its alternatives."""
        best, *others = (self._caption(hypothesis, image) for hypothesis in hypotheses)
        best.alternatives = others
        return best

    def _caption(self, hypothesis: Hypothesis, image: str) -> Caption:
        words, trace = self.vocabulary.decode(hypothesis.ids), hypothesis.trace
        gates = ("input", "forget", "output", "candidate", "cell", "hidden")
        return Caption(
            image=image,
            text=" ".join(words),
            words=words,
            log_prob=hypothesis.log_prob,
            word_log_probs=hypothesis.word_log_probs.numpy(),
            alpha=trace.alpha.reshape(-1, self.grid.height, self.grid.width).numpy(),
            centres=self.grid.centres,
            beta=trace.beta.mean(-1).numpy() if self.gated else None,
            gates={gate: getattr(trace, gate).numpy() for gate in gates},
        )


def name_of(source: Source) -> str:
    """What results call a picture: its path as given, or its kind."""
    if isinstance(source, (str, Path, TarMember)):
        return str(source)
    return getattr(source, "filename", None) or type(source).__name__


def _try_open(source: Source) -> Image.Image | ImageError:
    try:
        return open_image(source)
    except ImageError as error:
        return error
