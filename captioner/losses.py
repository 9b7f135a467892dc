"""What training minimises (Xu et al. 2015, equation (14))."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F


class CaptionLoss(NamedTuple):
    """Sums, not means: whoever calls divides, so that no batch size or padding enters."""

    cross_entropy: Tensor  # scalar, −Σ log p(y_t) over M real words, smoothed
    penalty: Tensor  # scalar, Σ over captions of Σ_i (1 − Σ_t α_ti)²


def caption_loss(
    logits: Tensor, targets: Tensor, attended: Tensor, real: Tensor, label_smoothing: float = 0.0
) -> CaptionLoss:
    """Both terms of equation (14).

    logits: (M, V) and targets: (M,) of the real words. attended: (N, K, L), Σ_t α_t over each
    caption's real words. real: (N, K), false for rows that only fill up an image with fewer
    captions than its neighbours.
    """
    entropy = F.cross_entropy(
        logits.float(), targets, reduction="sum", label_smoothing=label_smoothing
    )
    return CaptionLoss(entropy, doubly_stochastic_penalty(attended[real]))


def doubly_stochastic_penalty(attended: Tensor) -> Tensor:
    """Σ_i (1 − Σ_t α_ti)², the second term of equation (14), summed over captions.

    attended: (B, L), Σ_t α_t. The sum over locations is the paper's, not a mean over them.
    """
    return (1 - attended).square().sum()
