"""What training minimises (Xu et al. 2015, section 4.1 and equation (14); Liu et al. 2017)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from captioner.precision import at_least_float32
from captioner.vocabulary import UNWRITTEN

IN_CACHE, IN_MEMORY = 2**18, 2**26
"""Of log-probabilities together, on a CPU, in whose caches 1 MB stays, and elsewhere."""


class CaptionLoss(NamedTuple):
    """Sums, not means: whoever calls divides, so that no batch size or padding enters."""

    cross_entropy: Tensor  # scalar, −Σ log p(y_t) over M real words, smoothed, or `policy_gradient`
    penalty: Tensor  # scalar, Σ over captions of Σ_i (1 − Σ_t α_ti)²
    grounding: Tensor  # scalar, see `grounding`; zero where no regions are asked for
    reinforce: Tensor  # scalar, of which only the gradient has a meaning; see `reinforce`
    entropy: Tensor  # scalar, Σ H[s_t]; like `reinforce` zero where no location is drawn


def caption_loss(
    logits: Tensor, targets: Tensor, attended: Tensor, real: Tensor, label_smoothing: float = 0.0
) -> CaptionLoss:
    """Both terms of equation (14), and none of section 4.1 or of `grounding`.

    logits: (M, V) and targets: (M,) of the real words. attended: (N, K, L), Σ_t α_t over each
    caption's real words. real: (N, K), false for rows that only fill up an image with fewer
    captions than its neighbours.
    """
    entropy = _CrossEntropy.apply(logits, targets, label_smoothing)
    zero = entropy.new_zeros(())
    return CaptionLoss(entropy, doubly_stochastic_penalty(attended[real]), zero, zero, zero)


class _CrossEntropy(torch.autograd.Function):
    r"""`F.cross_entropy`'s sum, whose gradient softmax(x) − q is taken in the same pass.

    q is one at the target, or with smoothing ε it is 1 − ε + ε/V there and ε/V at each other word.
    A few rows at a time: of the M×V log-probabilities, which with a large vocabulary are most of
    training's memory, nothing is kept but that gradient, in the precision of the logits.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        words = logits.shape[1]
        rows = max(1, (IN_CACHE if logits.device.type == "cpu" else IN_MEMORY) // words)
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        total = at_least_float32(logits.new_zeros(()))
        for first in range(0, len(logits), rows):
            few = slice(first, first + rows)
            log_p, target = at_least_float32(logits[few]).log_softmax(1), targets[few, None]
            total -= (1 - smoothing) * log_p.gather(1, target).sum()
            if smoothing:
                total -= smoothing / words * log_p.sum()
            if gradient is not None:
                slope = log_p.exp_().sub_(smoothing / words)
                slope.scatter_add_(1, target, slope.new_full(target.shape, smoothing - 1))
                gradient[few] = slope
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, scale: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * scale, None, None


def doubly_stochastic_penalty(attended: Tensor) -> Tensor:
    """Σ_i (1 − Σ_t α_ti)², the second term of equation (14), summed over captions.

    attended: (B, L), Σ_t α_t. The sum over locations is the paper's, not a mean over them.
    """
    return (1 - attended).square().sum()


def grounding(alphas: Tensor, regions: Tensor) -> Tensor:
    r"""−Σ_t log Σ_i α_ti m_ti over the words that name something whose regions are known.

    alphas: (M, L). regions: (M, L), m_ti in [0, 1], the share of location i's cell that the regions
    of word t cover; words for which it is zero everywhere add nothing.

    Supervised attention after Liu et al. 2017 ("Attention correctness in neural image captioning",
    AAAI), their strong supervision by alignment annotation. Σ_i α_ti m_ti is what they call the
    attention's correctness, and the probability that s_t of equation (8) lies in the regions. It is
    to become likely, wherever in them that may be; a deviation, since their loss is the
    cross-entropy to an even spread, −Σ_i m_ti log α_ti / Σ_i m_ti.
    """
    inside = (alphas * regions).sum(-1)
    log_p = inside.clamp(min=torch.finfo(inside.dtype).tiny).log()
    return -(log_p * regions.any(-1)).sum()


def reinforce(
    logits: Tensor,
    targets: Tensor,
    log_s: Tensor,
    mask: Tensor,
    baseline: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""−Σ_t log p(s_t) Σ_{t' ≥ t} (log p(y_t') − b), summed over captions.

    Its gradient is the second term of equation (12), with the baseline of the learning rule below
    it, negated: a location is to become likelier as the words that it was read for did well. The
    paper weights each log p(s_t) by the whole caption's log p(y) − b. The words before s_t do not
    depend on it and add nothing but variance, so they are left out; and b is so much per word,
    since long captions have a lower log p than short ones wherever they look.

    log_s: (M,), log α_t of the locations that were drawn, 0 where none was; like logits and
    targets in the order of mask, (N, K, T), step by step. `label_smoothing` as in `caption_loss`.
    """
    log_p = -F.cross_entropy(
        logits.detach().float(), targets, reduction="none", label_smoothing=label_smoothing
    )
    steps = mask.movedim(2, 0)  # (T, N, K)
    gains = log_p.new_zeros(steps.shape).masked_scatter(steps, log_p - baseline)
    to_go = gains.flip(0).cumsum(0).flip(0)[steps]  # (M,)
    return -(to_go * log_s).sum()


def policy_gradient(logits: Tensor, targets: Tensor, advantages: Tensor) -> Tensor:
    """−Σ_t A log p(y_t), whose gradient is an estimate of minus the expected reward's.

    logits: (M, V), targets: (M,) and advantages: (M,) of all words of captions that were sampled
    from p; a caption's words share its advantage A. p is what a search writes from: words that are
    never written have no part in it.
    """
    unwritten = torch.tensor(UNWRITTEN, device=logits.device)
    possible = logits.float().index_fill(-1, unwritten, -math.inf)
    log_p = -F.cross_entropy(possible, targets, reduction="none")
    return -(advantages.to(log_p.dtype) * log_p).sum()


def moving_average(baseline: float, log_p: float) -> float:
    """b_k = 0.9 b_{k-1} + 0.1 log p(y), section 4.1, from the k-th update's log p per word."""
    return 0.9 * baseline + 0.1 * log_p
