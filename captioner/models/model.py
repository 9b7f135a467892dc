"""Encoder and decoder together: the module that is trained and saved."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captioner.models.decoder import Decoder, Unrolled
from captioner.models.encoder import Encoder
from captioner.precision import lower, products


class CaptioningModel(nn.Module):
    """Show, Attend and Tell: an encoder whose grid a decoder looks at before every word.

    While `tuned` is false the encoder is a fixed function, and no gradient is kept for it.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, tuned: bool = False):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.tuned = tuned
        self.lowered = False

    def for_captioning(self, half: bool = False) -> CaptioningModel:
        """It, in eval mode and made fast; no longer to be trained or saved.

        The encoder is `folded`. With `half`, products are in bfloat16 within `arithmetic`.
        """
        self.encoder, self.lowered = self.encoder.folded(half), half
        if half:
            lower(self.decoder)
        return self.eval()

    def arithmetic(self) -> torch.autocast:
        """The block in which it captions, in the precision that `for_captioning` was told."""
        return products(next(self.parameters()).device, self.lowered)

    def annotate(self, images: Tensor) -> Tensor:
        """Annotations (N, L, D), of uint8 pixels (N, 3, S, S) or of what the cache holds."""
        with torch.set_grad_enabled(self.tuned and torch.is_grad_enabled()):
            if images.dtype == torch.uint8:
                return self.encoder(images)
            return self.encoder.finish(images.float())

    def forward(self, images: Tensor, tokens: Tensor, mask: Tensor) -> Unrolled:
        """images as in `annotate`; tokens and mask, (N, K, T), as in `Decoder.forward`."""
        return self.decoder(tokens, mask, self.annotate(images))
