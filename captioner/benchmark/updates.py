"""An update of training, timed: ours in each precision beside the textbook's in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from captioner.benchmark.contests import (
    HALF,
    TEXTBOOK,
    Contest,
    build_pair,
    decoder_shape,
    missing,
)
from captioner.config import SizeOptions
from captioner.data.loader import Batch, Item, collate
from captioner.models.decoder import Decoder, Unrolled
from captioner.models.loops import take_faster_loop
from captioner.objectives import batch_loss
from captioner.precision import products
from captioner.schedule import clip_gradients
from captioner.vocabulary import END, PAD, SPECIALS

CLIP, RATE = 5.0, 1e-4
# Words of a caption in Flickr8k's training split: mean and deviation, fewest and most.
LENGTH, DEVIATION, FEWEST, MOST = 10.79, 3.75, 2, 36


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
    runs = {TEXTBOOK: _update(textbook, lambda: textbook.loss(features, targets), ours=False)}
    for dtype in dtypes:
        ours, _ = build_pair(shape, device)
        take_faster_loop(ours, device)
        runs[dtype] = _update(ours, _loss(ours, batch, dtype), ours=True)

    @torch.no_grad()
    def agree(dtype: str, *_: None) -> str:
        """Before the first update, and without dropout."""
        one, other = (part.eval() for part in build_pair(shape, device))
        ratio = _loss(one, batch, dtype)() / other.loss(features, targets)
        return f"losses differ by {abs(ratio - 1):.0e}"

    return Contest(
        "training step",
        "captions/s",
        batch.captions,
        runs,
        shape.training(len(batch.images), batch.words),
        agree,
        missing=missing(dtypes),
    )


def _loss(decoder: Decoder, batch: Batch, dtype: str) -> Callable[[], Tensor]:
    """Equation (14) as training has it, with λ = 1, a mean over captions."""

    def model(images: Tensor, tokens: Tensor, mask: Tensor) -> Unrolled:
        with products(images.device, dtype == HALF):
            return decoder(tokens, mask, images.float())

    def loss() -> Tensor:
        sums = batch_loss(model, batch)
        return (sums.cross_entropy + sums.penalty) / batch.captions

    return loss


def _update(model: nn.Module, loss: Callable[[], Tensor], ours: bool) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), RATE, fused=ours or None)
    clip = clip_gradients if ours else nn.utils.clip_grad_norm_

    def update() -> None:
        loss().backward()
        clip(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update
