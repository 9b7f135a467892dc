"""What is timed: ours and the textbook's way to do the same, on the same weights and input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captioner.benchmark.counting import DecoderShape, encoder_work
from captioner.benchmark.textbook import TextbookDecoder, as_textbook
from captioner.benchmark.timing import DTYPES, Work
from captioner.caption import CaptionWriter
from captioner.captioner import Captioner
from captioner.config import SearchOptions, SizeOptions
from captioner.data.images import Transform, open_image
from captioner.data.loader import Batch, Item, collate
from captioner.export import export
from captioner.exported import ExportedCaptioner
from captioner.models.decoder import Decoder, Unrolled
from captioner.models.encoder import Encoder
from captioner.models.graphs import replay_loop
from captioner.models.model import CaptioningModel
from captioner.objectives import batch_loss
from captioner.search import search
from captioner.vocabulary import END, PAD, SPECIALS, Vocabulary

DROPOUT, CLIP, RATE = 0.5, 5.0, 1e-4
# Words of a caption in Flickr8k's training split: mean and deviation, fewest and most.
LENGTH, DEVIATION, FEWEST, MOST = 10.79, 3.75, 2, 36
TEXTBOOK = "textbook"  # the contestant that the others, named by their precision, stand beside
ONNX = "onnx"  # and this one, which runs without torch


@dataclass
class Contest:
    """Contestants that do the same to `count` things, in things per second."""

    name: str
    unit: str
    count: int
    runs: dict[str, Callable[[], Any]]  # the textbook's first, in float32
    work: Work  # of all `count`
    agree: Callable[[Any, Any], str]  # of ours and the textbook's result: how far they are the same
    missing: Sequence[str] = ()  # contestants that this machine does not have
    megabytes: dict[str, float] = field(default_factory=dict)  # of contestants, on the disk


def decoder_shape(sizes: SizeOptions) -> DecoderShape:
    return DecoderShape(**{name: getattr(sizes, name) for name in DecoderShape.__match_args__})


def build_pair(shape: DecoderShape, device: torch.device) -> tuple[Decoder, TextbookDecoder]:
    """Ours and the textbook's with the same untrained weights, of the paper's model."""
    torch.manual_seed(0)
    sizes = {name: size for name, size in asdict(shape).items() if name != "locations"}
    decoder = Decoder(**sizes, dropout=DROPOUT).to(device)
    return decoder, as_textbook(decoder, DROPOUT)


def captions_of_flickr8k_length(count: int, vocabulary: int, seed: int = 0) -> list[list[int]]:
    """Ids of random words, then `<end>`; as many words as Flickr8k's captions have."""
    rng = np.random.default_rng(seed)
    lengths = rng.gamma((LENGTH / DEVIATION) ** 2, DEVIATION**2 / LENGTH, count)
    lengths = lengths.round().clip(FEWEST, MOST).astype(int)
    return [[*rng.integers(len(SPECIALS), vocabulary, n).tolist(), END] for n in lengths]


def training_batch(sizes: SizeOptions) -> Batch:
    """As the loader gives it: half-precision features, the captions of each image together."""
    captions = captions_of_flickr8k_length(sizes.captions, sizes.vocabulary)
    together = [
        sorted(captions[first : first + sizes.per_image], key=len, reverse=True)
        for first in range(0, len(captions), sizes.per_image)
    ]
    features = torch.rand(len(together), sizes.locations, sizes.annotation).half()
    return collate([Item(*pair, n) for n, pair in enumerate(zip(features, together, strict=True))])


def one_image_per_caption(batch: Batch) -> tuple[Tensor, Tensor]:
    """The same batch for the textbook: features (B, L, D) and targets (B, T), longest first."""
    real = batch.mask[..., 0]
    features = batch.images[:, None].expand(-1, real.shape[1], -1, -1)[real].float()
    targets = batch.targets[real]
    order = (targets != PAD).sum(1).argsort(descending=True, stable=True)
    return features[order], targets[order]


def training(sizes: SizeOptions, dtypes: Sequence[str], device: torch.device) -> Contest:
    """An update: forward, loss, backward, clipping, AdamW."""
    shape, batch = decoder_shape(sizes), training_batch(sizes).to(device)
    features, targets = one_image_per_caption(batch)
    _, textbook = build_pair(shape, device)
    runs = {TEXTBOOK: _update(textbook, lambda: textbook.loss(features, targets), fused=False)}
    for dtype in dtypes:
        ours, _ = build_pair(shape, device)
        replay_loop(ours, device)
        runs[dtype] = _update(ours, _loss(ours, batch, dtype), fused=True)

    @torch.no_grad()
    def agree(*_: None) -> str:
        """Before the first update, and without dropout."""
        one, other = (part.eval() for part in build_pair(shape, device))
        ratio = _loss(one, batch)() / other.loss(features, targets)
        return f"losses differ by {abs(ratio - 1):.0e}"

    return Contest(
        "training step",
        "captions/s",
        batch.captions,
        runs,
        shape.training(len(batch.images), batch.words),
        agree,
        missing=[dtype for dtype in DTYPES if dtype not in dtypes],
    )


def _loss(decoder: Decoder, batch: Batch, dtype: str = "float32") -> Callable[[], Tensor]:
    """Equation (14) as training has it, with λ = 1, a mean over captions."""

    def model(images: Tensor, tokens: Tensor, mask: Tensor) -> Unrolled:
        with torch.autocast(images.device.type, DTYPES[dtype], enabled=dtype != "float32"):
            return decoder(tokens, mask, images.float())

    def loss() -> Tensor:
        sums = batch_loss(model, batch)
        return (sums.cross_entropy + sums.penalty) / batch.captions

    return loss


def _update(model: nn.Module, loss: Callable[[], Tensor], fused: bool) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), RATE, fused=fused or None)

    def update() -> None:
        loss().backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update


def search_options(sizes: SizeOptions) -> SearchOptions:
    return SearchOptions(width=sizes.width, max_length=sizes.max_length)


def beam_search(sizes: SizeOptions, device: torch.device) -> Contest:
    """From features to captions: ours in batches, and the textbook's image by image."""
    shape, options = decoder_shape(sizes), search_options(sizes)
    decoder, textbook = (part.eval() for part in build_pair(shape, device))
    batch = torch.rand(sizes.batch, sizes.locations, sizes.annotation, device=device)

    def ours() -> list[list[int]]:
        found = []
        for first in range(0, sizes.images, sizes.batch):
            found += search(decoder, batch[: sizes.images - first], **asdict(options))
        return [hypotheses[0].ids for hypotheses in found]

    def one_at_a_time() -> list[list[int]]:
        return [
            _search_one(textbook, batch[number % sizes.batch], options)
            for number in range(sizes.images)
        ]

    return Contest(
        f"beam search, width {sizes.width}",
        "images/s",
        sizes.images,
        {TEXTBOOK: one_at_a_time, "float32": ours},
        _search_work(shape, sizes, sizes.images),
        _same,
    )


def _search_work(shape: DecoderShape, sizes: SizeOptions, images: int) -> Work:
    """Where no beam ends before the last step; at the first, all of an image are still the same."""
    return shape.forward(images, images * (1 + sizes.width * (sizes.max_length - 1)))


def _search_one(textbook: TextbookDecoder, annotations: Tensor, options: SearchOptions) -> list:
    return textbook.search(annotations, options.width, options.max_length, options.length_penalty)


def _same(ours: Sequence, theirs: Sequence) -> str:
    same = sum(one == other for one, other in zip(ours, theirs, strict=True))
    return f"{same} of {len(ours)} captions the same"


def feature_extraction(encoder: Encoder, pixels: Tensor) -> Contest:
    """Annotations of a batch: the trunk as torchvision has it, and as ours is used."""
    work = encoder_work(encoder.trunk.eval(), encoder.image_size)
    encoder = encoder.to(pixels.device)

    def run(encoder: Encoder) -> Callable[[], Tensor]:
        return torch.inference_mode()(lambda: encoder(pixels))

    def agree(ours: Tensor, theirs: Tensor) -> str:
        return f"features differ by {(ours - theirs).abs().max() / theirs.abs().max():.0e}"

    return Contest(
        "feature extraction",
        "images/s",
        len(pixels),
        {TEXTBOOK: run(encoder), "float32": run(encoder.folded())},
        work.times(len(pixels)),
        agree,
    )


def folder_captioning(
    encoder: Encoder,
    transform: Transform,
    paths: Sequence[Path],
    sizes: SizeOptions,
    device: torch.device,
) -> Contest:
    """From files to text, in batches as caption.py does it, and one picture after another."""
    options = search_options(sizes)
    work = encoder_work(encoder.trunk.eval(), encoder.image_size)
    encoder = encoder.to(device)
    locations = encoder.grid.height * encoder.grid.width
    shape = replace(decoder_shape(sizes), locations=locations, annotation=encoder.annotation)
    decoder, textbook = (part.eval() for part in build_pair(shape, device))
    vocabulary = Vocabulary(f"w{n}" for n in range(len(SPECIALS), sizes.vocabulary))
    captioner = Captioner(
        CaptioningModel(encoder.folded(), decoder), vocabulary, transform, options
    )

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
        {TEXTBOOK: one_at_a_time, "float32": texts(captioner)},
        Work(encoded.flops + searched.flops, encoded.bytes + searched.bytes),
        _same,
        megabytes={"float32": sum(p.nbytes for p in captioner.model.parameters()) / 1e6},
    )
    try:
        exported, contest.megabytes[ONNX] = _exported(captioner)
        contest.runs[ONNX] = texts(exported)
    except ValueError:  # without onnxscript or onnxruntime
        contest.missing = [ONNX]
    return contest


def _exported(captioner: Captioner) -> tuple[ExportedCaptioner, float]:
    """It as ONNX, and the megabytes of its files. Raises ValueError where a package is missing."""
    with TemporaryDirectory() as folder:
        files = export(captioner, Path(folder, "onnx"))
        size = sum(file.stat().st_size for file in files.iterdir())
        return ExportedCaptioner.load(files), size / 1e6
