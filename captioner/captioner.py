"""What a user imports: `Captioner.load(path)(image)` gives a caption and all that led to it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from captioner.build import build_device, build_transform, is_half, restore_model
from captioner.caption import Caption, CaptionWriter, Source, name_of, with_alternatives
from captioner.card import model_card
from captioner.checkpoint import FILES, Checkpoint, open_checkpoint
from captioner.config import SearchOptions
from captioner.data.images import Transform, open_image
from captioner.files import whole_folder
from captioner.hub import upload
from captioner.models.model import CaptioningModel
from captioner.rules import WORDS
from captioner.search import Hypothesis, search
from captioner.vocabulary import Vocabulary


class Captioner(CaptionWriter):
    """A trained model, ready for pictures."""

    def __init__(
        self,
        model: CaptioningModel,
        vocabulary: Vocabulary,
        transform: Transform,
        options: SearchOptions | None = None,
        gated: bool = True,
        origin: Checkpoint | None = None,
    ):
        """`options` are the search's defaults; `gated` says whether the model has a β.

        `origin` is the checkpoint that the model was read from, which saving it needs.
        """
        super().__init__(vocabulary, transform, model.encoder.grid, gated)
        self.model = model.eval()
        self.options = options or SearchOptions()
        self.origin = origin

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        device: str | None = None,
        options: SearchOptions | None = None,
        precision: str = "fp32",
    ) -> Captioner:
        """Reads a checkpoint: a folder, or what Hugging Face's Hub has under `owner/name`.

        `precision` is fp32, bf16, or auto: bf16 where the device is fast in it.
        Raises ValueError where it is not whole, or can't be fetched, and for another precision.
        """
        opened, device = open_checkpoint(checkpoint), build_device(device)
        decoder = opened.options.decoder
        return cls(
            restore_model(opened, device).for_captioning(is_half(precision, device)),
            opened.vocabulary,
            build_transform(opened.options.encoder),
            options,
            gated=decoder.beta != "none" or decoder.attention_kind == "adaptive",
            origin=opened,
        )

    def save(self, folder: str | Path) -> Path:
        """Copies the checkpoint it was loaded from to a new folder, with a model card.

        Raises ValueError for a folder that exists, and where there is no `origin`.
        """
        folder = Path(folder)
        if self.origin is None:
            raise ValueError("only a captioner that was loaded from a checkpoint can be saved")
        if folder.exists():
            raise ValueError(f"{folder} exists already; give save a new folder")
        card = model_card(self.origin.options, self.origin.metrics, self.vocabulary)
        with whole_folder(folder) as new:
            for name in FILES:
                shutil.copyfile(self.origin.folder / name, new / name)
            (new / "README.md").write_text(card, encoding="utf-8")
        return folder

    def push_to_hub(self, name: str, private: bool = False) -> str:
        """Publishes what `save` writes as `owner/name` on Hugging Face's Hub; returns its address.

        `hf auth login` or the variable HF_TOKEN says who you are. config.yaml goes along as it is,
        with the paths that training was given. Raises ValueError where the Hub refuses.
        """
        with TemporaryDirectory() as temporary:
            return upload(self.save(Path(temporary) / "checkpoint"), name, private)

    def expect(self, pictures: int) -> None:
        """Gets ready for so many: see `additive.fuse_for`."""
        words = pictures * self.options.captions * WORDS
        self.model.decoder.expect(words, self.grid.height * self.grid.width)

    def caption(self, images: Sequence[Source]) -> list[Caption]:
        """The best caption of each picture, all in one batch. Raises ImageError."""
        if not images:
            return []
        pixels = torch.stack([self.transform(open_image(image)) for image in images])
        device = next(self.model.parameters()).device
        with torch.inference_mode(), self.model.arithmetic():
            annotations = self.model.annotate(pixels.to(device))
            found = search(self.model.decoder, annotations, **asdict(self.options), trace=True)
        return [
            with_alternatives(self._caption(hypothesis, name_of(image)) for hypothesis in several)
            for image, several in zip(images, found, strict=True)
        ]

    def _caption(self, found: Hypothesis, image: str) -> Caption:
        trace = {name: part.numpy() for name, part in found.trace._asdict().items()}
        return self.compose(image, found.ids, found.log_prob, found.word_log_probs.numpy(), trace)
