"""Captions of different lengths, unrolled side by side: which of them have a word at a step.

A mask (N, K, T) says so for N images with K captions each, the longest caption of an image first,
so that captions only ever end, and those of the last columns before those of the first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


class Places:
    """Which of N images' K captions have a word at a step: rows for them alone, and back.

    Where all have, neither costs anything.
    """

    def __init__(self, real: Tensor, count: int):
        """real: (N, K), true for `count` captions."""
        self.real, self.count = real, count
        self.flat = None if count == real.numel() else real.flatten().nonzero().squeeze(1)

    def spread(self, rows: Tensor) -> Tensor:
        """(M, …) → (N, K, …), zero where there is no row."""
        if self.flat is not None:
            every = rows.new_zeros(self.real.numel(), *rows.shape[1:])
            rows = every.index_copy(0, self.flat, rows)
        return rows.unflatten(0, self.real.shape)

    def pick(self, values: Tensor) -> Tensor:
        """(N, K, …) → (M, …)."""
        values = values.flatten(0, 1)
        return values if self.flat is None else values.index_select(0, self.flat)

    def only(self, values: Tensor) -> Tensor:
        """The entries, (M,), of values for all K captions, (N, K)."""
        return values[:, : self.real.shape[1]][self.real]

    def among(self, before: Places) -> Tensor:
        """(M before,), true for those of another step's captions that are at this step as well."""
        return F.pad(self.real, (0, before.real.shape[1] - self.real.shape[1]))[before.real]

    def lasting(self, before: Places) -> Tensor | None:
        """(M,), which captions of the step before are at this one, or None where all are."""
        if self.count == before.count:
            return None
        return self.among(before).nonzero().squeeze(1)


def everyone(images: int, captions: int, device: torch.device) -> Places:
    """At a step at which all captions have a word."""
    return Places(torch.ones(images, captions, dtype=torch.bool, device=device), images * captions)


def places_of(mask: Tensor) -> list[Places]:
    """Of every step, within the leading columns in which a caption is still alive."""
    counts, columns = mask.sum((0, 1)).tolist(), mask.any(0).sum(0).tolist()
    return [
        Places(mask[:, :alive, t], count)
        for t, (alive, count) in enumerate(zip(columns, counts, strict=True))
    ]


def attended(alphas: Tensor, mask: Tensor) -> Tensor:
    """Σ_t α_t over each caption's words, (N, K, L), of all α, (M, L), as `in_order` has them."""
    captions = torch.arange(mask[..., 0].numel(), device=mask.device).view_as(mask[..., 0])
    rows = in_order(captions[..., None].expand_as(mask), mask)
    total = alphas.new_zeros(captions.numel(), alphas.shape[1]).index_add(0, rows, alphas)
    return total.view(*captions.shape, -1)


def in_order(values: Tensor, mask: Tensor) -> Tensor:
    """The entries of (N, K, T, …) where mask is true, as the unroll meets them: step by step."""
    return values.movedim(2, 0)[mask.movedim(2, 0)]
