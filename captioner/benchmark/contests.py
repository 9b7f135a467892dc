"""What is timed: ours and the textbook's way to do the same, on the same weights and input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from captioner.benchmark.counting import DecoderShape, encoder_work
from captioner.benchmark.textbook import TextbookDecoder, as_textbook
from captioner.benchmark.timing import DTYPES, Work
from captioner.captioner import Captioner
from captioner.config import SearchOptions, SizeOptions
from captioner.data.images import Transform, open_image
from captioner.data.loader import Batch, collate
from captioner.models.decoder import Decoder, Unrolled
from captioner.models.encoder import Encoder
from captioner.models.model import CaptioningModel
from captioner.search import Hypothesis, search
from captioner.training import batch_loss
from captioner.vocabulary import END, PAD, SPECIALS, Vocabulary

DROPOUT, CLIP, RATE = 0.5, 5.0, 1e-4
# Words of a caption in Flickr8k's training split: mean and deviation, fewest and most.
LENGTH, DEVIATION, FEWEST, MOST = 10.79, 3.75, 2, 36
TEXTBOOK = "textbook"


@dataclass
class Contest:
    """Contestants that do the same to `count` things, each of `unit`; the first is not ours."""

    name: str
    unit: str
    count: int
    runs: dict[str, Callable[[], object]]
    work: Work  # of all `count`
    agreement: str  # how far the results are the same


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
    return collate(list(zip(features, together, strict=True)))


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
    decoder, textbook = build_pair(shape, device)
    features, targets = one_image_per_caption(batch)
    runs = {
        f"{TEXTBOOK} float32": _update(
            textbook, lambda: textbook.loss(features, targets), fused=False
        )
    }
    for dtype in dtypes:
        ours, _ = build_pair(shape, device)
        runs[dtype] = _update(ours, _loss(ours, batch, dtype), fused=True)
    with torch.no_grad():
        one, other = _loss(decoder.eval(), batch)(), textbook.eval().loss(features, targets)
    textbook.train()
    return Contest(
        "training step",
        "captions/s",
        batch.captions,
        runs,
        shape.training(len(batch.images), batch.words),
        f"losses differ by {abs(one / other - 1):.0e}",
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


def beam_search(sizes: SizeOptions, device: torch.device, textbook: bool = True) -> Contest:
    """From features to captions: ours in batches, and the textbook's image by image."""
    shape, options = decoder_shape(sizes), search_options(sizes)
    decoder, other = (part.eval() for part in build_pair(shape, device))
    batch = torch.rand(sizes.batch, sizes.locations, sizes.annotation, device=device)

    def ours() -> list[list[Hypothesis]]:
        found = []
        for first in range(0, sizes.images, sizes.batch):
            part = batch[: sizes.images - first]
            found += search(decoder, part, **asdict(options))
        return found

    def one_at_a_time() -> list[list[int]]:
        return [
            _search_one(other, batch[number % sizes.batch], options)
            for number in range(sizes.images)
        ]

    found = ours()
    runs = {"float32": ours}
    agreement = ""
    if textbook:
        runs = {f"{TEXTBOOK} float32, one at a time": one_at_a_time, **runs}
        agreement = _same([row[0].ids for row in found], one_at_a_time())
    words = sum(sizes.width * max(len(h.ids) + h.ended for h in row) for row in found)
    return Contest(
        f"beam search, width {sizes.width}",
        "images/s",
        sizes.images,
        runs,
        shape.forward(sizes.images, words),
        agreement,
    )


def _search_one(textbook: TextbookDecoder, annotations: Tensor, options: SearchOptions) -> list:
    return textbook.search(annotations, options.width, options.max_length, options.length_penalty)


def _same(ours: Sequence, theirs: Sequence) -> str:
    same = sum(one == other for one, other in zip(ours, theirs, strict=True))
    return f"{same} of {len(ours)} captions the same"


def feature_extraction(encoder: Encoder, pixels: Tensor) -> Contest:
    """Annotations of a batch: the trunk as torchvision has it, and as ours is used."""
    work = encoder_work(encoder.trunk.eval(), encoder.image_size)
    encoder = encoder.to(pixels.device)
    folded = encoder.folded()

    def run(encoder: Encoder) -> Callable[[], Tensor]:
        return torch.inference_mode()(lambda: encoder(pixels))

    eager, ours = run(encoder), run(folded)
    difference = (eager() - ours()).abs().max() / eager().abs().max()
    return Contest(
        "feature extraction",
        "images/s",
        len(pixels),
        {f"{TEXTBOOK} float32, eager": eager, "float32": ours},
        work.times(len(pixels)),
        f"features differ by {difference:.0e}",
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
    shape = DecoderShape(
        encoder.grid.height * encoder.grid.width,
        encoder.annotation,
        sizes.hidden,
        sizes.embedding,
        sizes.attention,
        sizes.vocabulary,
    )
    decoder, textbook = (part.eval() for part in build_pair(shape, device))
    vocabulary = Vocabulary(f"w{n}" for n in range(len(SPECIALS), sizes.vocabulary))
    captioner = Captioner(
        CaptioningModel(encoder.folded(), decoder), vocabulary, transform, options
    )

    def ours() -> list[str]:
        return [caption.text for caption in captioner.stream(paths, sizes.batch)]

    @torch.inference_mode()
    def one_at_a_time() -> list[str]:
        texts = []
        for path in paths:
            annotations = encoder(transform(open_image(path))[None].to(device))
            ids = _search_one(textbook, annotations[0], options)
            texts.append(" ".join(vocabulary.decode(ids)))
        return texts

    searched = shape.forward(len(paths), len(paths) * sizes.width * sizes.max_length)
    work = work.times(len(paths))
    return Contest(
        f"files to captions, width {sizes.width}",
        "images/s",
        len(paths),
        {f"{TEXTBOOK} float32, one at a time": one_at_a_time, "float32": ours},
        Work(work.flops + searched.flops, work.bytes + searched.bytes),
        _same(ours(), one_at_a_time()),
    )
