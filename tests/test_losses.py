from __future__ import annotations

import math

import numpy as np
import pytest
import reference
import torch
from torch import Tensor
from torch.nn import functional as F

from captioner import losses
from captioner.losses import (
    caption_loss,
    doubly_stochastic_penalty,
    grounding,
    moving_average,
    reinforce,
)

V, L = 7, 9


def captions(lengths: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (M, V), targets (M,) and alphas (M, L) of captions of these lengths, one by one."""
    words = sum(lengths)
    alphas = torch.randn(words, L).double().softmax(-1)
    return torch.randn(words, V).double(), torch.randint(0, V, (words,)), alphas


def test_both_terms_equal_equation_14():
    lengths = [5, 3, 1]
    logits, targets, alphas = captions(lengths)
    parts = [range(5), range(5, 8), range(8, 9)]
    attended = torch.stack([alphas[list(part)].sum(0) for part in parts])[None]
    loss = caption_loss(logits, targets, attended, torch.ones(1, 3, dtype=torch.bool))
    entropy = penalty = 0.0
    for part in parts:
        scores = [logits[t].numpy() for t in part]
        entropy += reference.cross_entropy(scores, [int(targets[t]) for t in part])
        penalty += reference.penalty([alphas[t].numpy() for t in part])
    assert float(loss.cross_entropy) == pytest.approx(entropy, rel=1e-6)
    assert float(loss.penalty) == pytest.approx(penalty, rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("at_once", [1, 3 * V, 2**18])  # of the five rows one, three and all
def test_cross_entropy_in_pieces_is_pytorchs(smoothing: float, at_once: int, monkeypatch):
    def ours(logits: Tensor) -> Tensor:
        real = torch.ones(1, 1, dtype=torch.bool)
        loss = caption_loss(logits, targets, torch.ones(1, 1, L), real, smoothing)
        return loss.cross_entropy

    monkeypatch.setattr(losses, "IN_CACHE", at_once)
    logits, targets, _ = captions([5])
    theirs = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(ours(logits), theirs)
    assert torch.autograd.gradcheck(ours, logits.requires_grad_())
    half = logits.detach().bfloat16().requires_grad_()
    loss = ours(half)
    assert loss.dtype == torch.float32
    (2 * loss).backward()
    exact = torch.autograd.grad(2 * ours(logits), logits)[0]
    assert half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(half.grad.double(), exact, rtol=0.02, atol=0.02)


def test_the_penalty_is_the_sum_worked_out_by_hand():
    # Two captions over four locations. First: (1-2)² + (1-0)² + (1-1)² + (1-0)² = 3.
    # Second: looked everywhere for a quarter of each of two words: 4 × (1 - 1/2)² = 1.
    attended = torch.tensor([[2.0, 0, 1, 0], [0.5, 0.5, 0.5, 0.5]])
    assert float(doubly_stochastic_penalty(attended)) == 4.0


def test_empty_rows_are_not_punished_for_looking_nowhere():
    logits, targets, _ = captions([2])
    attended = torch.zeros(1, 3, L)
    real = torch.tensor([[True, False, False]])
    assert float(caption_loss(logits, targets, attended, real).penalty) == L


def test_a_batch_twice_is_exactly_twice_the_sums():
    logits, targets, _ = captions([5, 3])
    attended, real = torch.rand(1, 2, L) * 2, torch.ones(1, 2, dtype=torch.bool)
    once = caption_loss(logits, targets, attended, real, label_smoothing=0.1)
    twice = caption_loss(
        logits.repeat(2, 1), targets.repeat(2), attended.repeat(2, 1, 1), real.repeat(2, 1), 0.1
    )
    torch.testing.assert_close(torch.stack(twice), 2 * torch.stack(once), rtol=1e-6, atol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_mixes_the_word_with_all_words(smoothing: float):
    logits, targets, _ = captions([6])
    expected = 0.0
    for scores, target in zip(logits.numpy(), targets.tolist(), strict=True):
        wanted = np.full(V, smoothing / V)
        wanted[target] += 1 - smoothing
        expected -= wanted @ np.log(reference.softmax(scores))
    attended, real = torch.ones(1, 1, L), torch.ones(1, 1, dtype=torch.bool)
    loss = caption_loss(logits, targets, attended, real, smoothing)
    assert float(loss.cross_entropy) == pytest.approx(expected, rel=1e-6)
    assert float(loss.penalty) == 0


def test_half_precision_logits_are_summed_in_single_precision():
    words = 5000
    logits = torch.zeros(words, V, dtype=torch.bfloat16)
    attended, real = torch.ones(1, 1, L), torch.ones(1, 1, dtype=torch.bool)
    loss = caption_loss(logits, torch.zeros(words, dtype=torch.long), attended, real)
    assert float(loss.cross_entropy) == pytest.approx(words * math.log(V), rel=1e-5)


# Attention that is told where to look.


def test_grounding_is_the_sum_worked_out_by_hand():
    alphas = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.5, 0.0], [0.1, 0.2, 0.7]])
    regions = torch.tensor([[1.0, 0.0, 0.5], [0.0, 0.25, 1.0], [0.0, 0.0, 0.0]])
    # 0.5 + 0.25 / 2 lies inside, then 0.5 / 4; the third word names nothing.
    expected = -math.log(0.625) - math.log(0.125)
    assert float(grounding(alphas, regions)) == pytest.approx(expected)


def test_grounding_moves_attention_into_the_regions_and_leaves_other_words_alone():
    scores = torch.randn(2, L, requires_grad=True)
    regions = torch.zeros(2, L)
    regions[0, :3] = 1
    inside = [float(scores.softmax(-1)[0, :3].sum())]
    for _ in range(60):
        (gradient,) = torch.autograd.grad(grounding(scores.softmax(-1), regions), scores)
        assert not gradient[1].any()
        scores = (scores - gradient).detach().requires_grad_()
        inside.append(float(scores.softmax(-1)[0, :3].sum()))
    assert inside == sorted(inside) and inside[-1] > 0.9


def test_grounding_of_attention_far_outside_is_finite_and_leads_back():
    scores = torch.tensor([[80.0, 0.0]], requires_grad=True)  # e^-80 inside
    loss = grounding(scores.softmax(-1), torch.tensor([[0.0, 1.0]]))
    (gradient,) = torch.autograd.grad(loss, scores)
    assert float(loss) == pytest.approx(80, rel=1e-3)
    assert gradient.tolist() == [[pytest.approx(1), pytest.approx(-1)]]
    nowhere = grounding(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    assert nowhere.isfinite() and nowhere > 80


# Section 4.1.


def drawn(lengths: list[list[int]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, targets and log p(s) of all words, in order, and the mask, of captions (N, K)."""
    counts = torch.tensor(lengths)
    mask = torch.arange(int(counts.max())) < counts[..., None]
    words = int(mask.sum())
    log_s = -torch.rand(words).double().requires_grad_()
    return torch.randn(words, V).double(), torch.randint(0, V, (words,)), log_s, mask


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_each_draw_is_rewarded_by_the_words_from_its_own_on(smoothing: float):
    logits, targets, log_s, mask = drawn([[4, 2], [3, 0]])
    (weights,) = torch.autograd.grad(
        reinforce(logits, targets, log_s, mask, -1.5, smoothing), log_s
    )
    gains = torch.zeros(mask.shape).double()
    order = [(n, k, t) for t in range(4) for n, k in np.ndindex(2, 2) if mask[n, k, t]]
    real = torch.ones(1, 1, dtype=torch.bool)
    for i, at in enumerate(order):
        one = caption_loss(
            logits[i : i + 1], targets[i : i + 1], torch.ones(1, 1, L), real, smoothing
        )
        gains[at] = -one.cross_entropy + 1.5
    for weight, (n, k, t) in zip(weights, order, strict=True):
        assert float(weight) == pytest.approx(-float(gains[n, k, t:].sum()), rel=1e-5)


def test_words_learn_nothing_from_the_reward():
    logits, targets, log_s, mask = drawn([[3]])
    logits.requires_grad_()
    surrogate = reinforce(logits, targets, log_s, mask, 0.0)
    assert torch.autograd.grad(surrogate, logits, allow_unused=True) == (None,)


def test_soft_attention_adds_nothing_of_section_4_1():
    logits, targets, _ = captions([2])
    loss = caption_loss(logits, targets, torch.ones(1, 1, L), torch.ones(1, 1, dtype=torch.bool))
    assert loss.reinforce == loss.entropy == loss.grounding == 0


def test_the_baseline_is_the_moving_average_of_the_paper():
    seen, baseline = [-5.0, -3.0, -2.0, -2.5], 0.0
    for value in seen:
        baseline = moving_average(baseline, value)
    expected = sum(0.1 * 0.9 ** (3 - k) * value for k, value in enumerate(seen))
    assert baseline == pytest.approx(expected)
