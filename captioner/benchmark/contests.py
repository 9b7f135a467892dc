"""What is timed: ours and the textbook's way to do the same, on the same weights and input.

Training stands in updates.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from captioner.benchmark.counting import DecoderShape, encoder_work
from captioner.benchmark.textbook import TextbookDecoder, as_textbook
from captioner.benchmark.timing import DTYPES, Work
from captioner.caption import CaptionWriter
from captioner.captioner import Captioner
from captioner.config import SearchOptions, SizeOptions
from captioner.data.images import Transform, open_image
from captioner.export import export
from captioner.exported import ExportedCaptioner
from captioner.models.decoder import Decoder
from captioner.models.encoder import Encoder
from captioner.models.model import CaptioningModel
from captioner.precision import lower, products
from captioner.process import torch_products
from captioner.search import search
from captioner.vocabulary import SPECIALS, Vocabulary

DROPOUT = 0.5
TEXTBOOK = "textbook"  # the contestant that the others, named by their precision, stand beside
HALF = "bfloat16"  # such a precision
ONNX = "onnx"  # and this one, which runs without torch


@dataclass
class Contest:
    """Contestants that do the same to `count` things, in things per second."""

    name: str
    unit: str
    count: int
    runs: dict[str, Callable[[], Any]]  # the textbook's first, in float32 as torch has it
    work: Work  # of all `count`
    # Of a contestant, its result and the textbook's: how far they are the same.
    agree: Callable[[str, Any, Any], str]
    missing: list[str] = field(default_factory=list)  # contestants that this machine does not have
    megabytes: dict[str, float] = field(default_factory=dict)  # of contestants, on the disk

    def __post_init__(self) -> None:
        self.runs[TEXTBOOK] = torch_products()(self.runs[TEXTBOOK])


def decoder_shape(sizes: SizeOptions) -> DecoderShape:
    return DecoderShape(**{name: getattr(sizes, name) for name in DecoderShape.__match_args__})


def build_pair(shape: DecoderShape, device: torch.device) -> tuple[Decoder, TextbookDecoder]:
    """Ours and the textbook's with the same untrained weights, of the paper's model."""
    torch.manual_seed(0)
    sizes = {name: size for name, size in asdict(shape).items() if name != "locations"}
    decoder = Decoder(**sizes, dropout=DROPOUT).to(device)
    return decoder, as_textbook(decoder, DROPOUT)


def missing(dtypes: Sequence[str]) -> list[str]:
    return [dtype for dtype in DTYPES if dtype not in dtypes]


def search_options(sizes: SizeOptions) -> SearchOptions:
    return SearchOptions(width=sizes.width, max_length=sizes.max_length)


def beam_search(sizes: SizeOptions, dtypes: Sequence[str], device: torch.device) -> Contest:
    """From features to captions: ours in batches, and the textbook's image by image."""
    shape, options = decoder_shape(sizes), search_options(sizes)
    _, textbook = build_pair(shape, device)
    textbook.eval()
    batch = torch.rand(sizes.batch, sizes.locations, sizes.annotation, device=device)

    def ours(dtype: str) -> Callable[[], list[list[int]]]:
        decoder = build_pair(shape, device)[0].eval()
        if dtype == HALF:
            lower(decoder)

        def run() -> list[list[int]]:
            found = []
            for first in range(0, sizes.images, sizes.batch):
                with products(device, dtype == HALF):
                    found += search(decoder, batch[: sizes.images - first], **asdict(options))
            return [hypotheses[0].ids for hypotheses in found]

        return run

    def one_at_a_time() -> list[list[int]]:
        return [
            _search_one(textbook, batch[number % sizes.batch], options)
            for number in range(sizes.images)
        ]

    return Contest(
        f"beam search, width {sizes.width}",
        "images/s",
        sizes.images,
        {TEXTBOOK: one_at_a_time} | {dtype: ours(dtype) for dtype in dtypes},
        _search_work(shape, sizes, sizes.images),
        _same,
        missing=missing(dtypes),
    )


def _search_work(shape: DecoderShape, sizes: SizeOptions, images: int) -> Work:
    """Where no beam ends before the last step; at the first, all of an image are still the same."""
    return shape.forward(images, images * (1 + sizes.width * (sizes.max_length - 1)))


def _search_one(textbook: TextbookDecoder, annotations: Tensor, options: SearchOptions) -> list:
    return textbook.search(annotations, options.width, options.max_length, options.length_penalty)


def _same(_: str, ours: Sequence, theirs: Sequence) -> str:
    same = sum(one == other for one, other in zip(ours, theirs, strict=True))
    return f"{same} of {len(ours)} captions the same"


def feature_extraction(encoder: Encoder, dtypes: Sequence[str], pixels: Tensor) -> Contest:
    """Annotations of a batch: the trunk as torchvision has it, and as ours is used."""
    work = encoder_work(encoder.trunk.eval(), encoder.image_size)
    encoder = encoder.to(pixels.device)

    @torch.inference_mode()
    def textbook() -> Tensor:
        return encoder(pixels)

    def ours(dtype: str) -> Callable[[], Tensor]:
        folded = encoder.folded(dtype == HALF)

        @torch.inference_mode()
        def run() -> Tensor:
            with products(pixels.device, dtype == HALF):
                return folded(pixels)

        return run

    def agree(_: str, ours: Tensor, theirs: Tensor) -> str:
        return f"features differ by {(ours - theirs).abs().max() / theirs.abs().max():.0e}"

    return Contest(
        "feature extraction",
        "images/s",
        len(pixels),
        {TEXTBOOK: textbook} | {dtype: ours(dtype) for dtype in dtypes},
        work.times(len(pixels)),
        agree,
        missing=missing(dtypes),
    )


def folder_captioning(
    encoder: Encoder,
    transform: Transform,
    paths: Sequence[Path],
    sizes: SizeOptions,
    dtypes: Sequence[str],
    device: torch.device,
) -> Contest:
    """From files to text, in batches as caption.py does it, and one picture after another."""
    options = search_options(sizes)
    work = encoder_work(encoder.trunk.eval(), encoder.image_size)
    encoder = encoder.to(device)
    locations = encoder.grid.height * encoder.grid.width
    shape = replace(decoder_shape(sizes), locations=locations, annotation=encoder.annotation)
    _, textbook = build_pair(shape, device)
    textbook.eval()
    vocabulary = Vocabulary(f"w{n}" for n in range(len(SPECIALS), sizes.vocabulary))

    def ours(dtype: str) -> Captioner:
        decoder, _ = build_pair(shape, device)
        model = CaptioningModel(encoder, decoder).for_captioning(dtype == HALF)
        return Captioner(model, vocabulary, transform, options)

    captioners = {dtype: ours(dtype) for dtype in dtypes}

    def texts(writer: CaptionWriter) -> Callable[[], list[str]]:
        return lambda: [caption.text for caption in writer.stream(paths, sizes.batch)]

    @torch.inference_mode()
    def one_at_a_time() -> list[str]:
        found = []
        for path in paths:
            annotations = encoder(transform(open_image(path))[None].to(device))
            ids = _search_one(textbook, annotations[0], options)
            found.append(" ".join(vocabulary.decode(ids)))
        return found

    encoded, searched = work.times(len(paths)), _search_work(shape, sizes, len(paths))
    contest = Contest(
        f"files to captions, width {sizes.width}",
        "images/s",
        len(paths),
        {TEXTBOOK: one_at_a_time} | {dtype: texts(each) for dtype, each in captioners.items()},
        Work(encoded.flops + searched.flops, encoded.bytes + searched.bytes),
        _same,
        missing=missing(dtypes),
        megabytes={
            "float32": sum(p.nbytes for p in captioners["float32"].model.parameters()) / 1e6
        },
    )
    try:
        exported, contest.megabytes[ONNX] = _exported(captioners["float32"])
        contest.runs[ONNX] = texts(exported)
    except ValueError:  # without onnxscript or onnxruntime
        contest.missing.append(ONNX)
    return contest


def _exported(captioner: Captioner) -> tuple[ExportedCaptioner, float]:
    """It as ONNX, and the megabytes of its files. Raises ValueError where a package is missing."""
    with TemporaryDirectory() as folder:
        files = export(captioner, Path(folder, "onnx"))
        size = sum(file.stat().st_size for file in files.iterdir())
        return ExportedCaptioner.load(files), size / 1e6
