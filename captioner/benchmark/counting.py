"""FLOPs and bytes of the decoder's and an encoder's equations, counted from their shapes.

What stands in `Decoder.read_ahead` does the same with fewer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from captioner.benchmark.timing import Work

FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class DecoderShape:
    """Sizes of the paper's decoder, named as in README: L, D, H, E, A, V."""

    locations: int
    annotation: int
    hidden: int
    embedding: int
    attention: int
    vocabulary: int

    @property
    def _letters(self) -> tuple[int, int, int, int, int]:
        """D, H, E, A and V."""
        return self.annotation, self.hidden, self.embedding, self.attention, self.vocabulary

    @property
    def parameters(self) -> int:
        """Weights of its matrices; biases are too few to count."""
        D, H, E, A, V = self._letters
        attention, init, cell = D * A + H * A + A + H, 2 * D * H, 4 * H * (E + H + D)
        return V * E + attention + init + cell + H * E + D * E + E * V

    def once(self, images: int) -> float:
        """Multiplications that no recurrence repeats: the keys W_a a_i, h_0 and c_0."""
        per_image = self.locations * self.annotation * self.attention
        return images * (per_image + 2 * self.annotation * self.hidden)

    def read(self, words: int) -> float:
        """Multiplications of ẑ_t = Σ_i α_ti a_i."""
        return words * self.locations * self.annotation

    def step(self, words: int) -> float:
        """Multiplications of all other products, each word's."""
        D, H, E, A, V = self._letters
        look = H * A + self.locations * A + H  # W_h h, v · f(…), β
        return words * (look + 4 * H * (E + H + D) + H * E + D * E + E * V)

    def forward(self, images: int, words: int) -> Work:
        """Writing `words` words (those of all beams) in all, of so many images.

        Bytes: weights are read once, annotations once, logits written once.
        """
        flops = 2 * (self.once(images) + self.read(words) + self.step(words))
        values = self.parameters + self._annotations(images) + words * self.vocabulary
        return Work(flops, FLOAT32 * values)

    def training(self, images: int, words: int) -> Work:
        """An update with AdamW. Going back costs each product twice, for its weight and its input.

        Annotations need no gradient, so their products cost but once. Bytes: weights are read
        forward and backward, gradients written; AdamW reads weight, gradient and two moments and
        writes three of them; annotations are read twice; logits are written, read, and their
        gradient written and read.
        """
        flops = 2 * (2 * self.once(images) + 2 * self.read(words) + 3 * self.step(words))
        values = 10 * self.parameters + 2 * self._annotations(images) + 4 * words * self.vocabulary
        return Work(flops, FLOAT32 * values)

    def _annotations(self, images: int) -> int:
        return images * self.locations * self.annotation


def encoder_work(trunk: nn.Module, image_size: int) -> Work:
    """Of one image. Bytes: each convolution and linear layer reads its input and writes its output.

    The trunk must be on the CPU and in eval mode.
    """
    values = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal values
        values += inputs[0].numel() + output.numel()

    layers = [part for part in trunk.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        trunk(torch.zeros(1, 3, image_size, image_size))
    for hook in hooks:
        hook.remove()
    return Work(counter.get_total_flops(), FLOAT32 * values)
