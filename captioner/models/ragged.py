"""Captions of different lengths, unrolled side by side: which of them have a word at a step.

A mask (N, K, T) says so for N images with K captions each, the longest caption of an image first,
so that captions only ever end, and those of the last columns before those of the first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Rows:
    """Words step by step, (M, …), and all captions side by side at each step, (N, K_t, …).

    K_t are the leading columns in which a caption still has a word. One that has ended before keeps
    its row, which nobody reads: that is less work than to close the gap at each step.
    """

    def __init__(self, mask: Tensor):
        """mask: (N, K, T), true for M words."""
        columns = mask.any(0).sum(0).tolist()
        alive = [mask[:, :count, t] for t, count in enumerate(columns)]
        self.shapes = [each.shape for each in alive]
        self.words = torch.cat([each.flatten() for each in alive]).nonzero().squeeze(1)

    def spread(self, values: Tensor) -> list[Tensor]:
        """(M, …) → (N, K_t, …) of each step t, zero where there is no word."""
        counts = [shape.numel() for shape in self.shapes]
        every = values.new_zeros(sum(counts), *values.shape[1:]).index_copy(0, self.words, values)
        steps = zip(every.split(counts), self.shapes, strict=True)
        return [rows.unflatten(0, shape) for rows, shape in steps]

    def pick(self, steps: Sequence[Tensor]) -> Tensor:
        """Back to (M, …)."""
        return torch.cat([rows.flatten(0, 1) for rows in steps]).index_select(0, self.words)


def attended(alphas: Tensor, mask: Tensor) -> Tensor:
    """Σ_t α_t over each caption's words, (N, K, L), of all α, (M, L), as `in_order` has them."""
    captions = torch.arange(mask[..., 0].numel(), device=mask.device).view_as(mask[..., 0])
    rows = in_order(captions[..., None].expand_as(mask), mask)
    total = alphas.new_zeros(captions.numel(), alphas.shape[1]).index_add(0, rows, alphas)
    return total.view(*captions.shape, -1)


def in_order(values: Tensor, mask: Tensor) -> Tensor:
    """The entries of (N, K, T, …) where mask is true, as the unroll meets them: step by step."""
    return values.movedim(2, 0)[mask.movedim(2, 0)]
