from __future__ import annotations

import numpy as np
import pytest
import reference
import torch

from captioner.models.attention import SoftAttention

N, K, L, D, H, A = 2, 3, 9, 6, 8, 5


@pytest.fixture
def parts() -> tuple[SoftAttention, torch.Tensor, torch.Tensor]:
    """Attention, annotations (N, L, D) and hidden states (N, K, H), in double precision."""
    attention = SoftAttention(D, H, A).double()
    return attention, torch.randn(N, L, D).double(), torch.randn(N, K, H).double()


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_it_equals_the_equations(nonlinearity: str):
    attention = SoftAttention(D, H, A, nonlinearity).double()
    annotations, hidden = torch.randn(N, L, D).double(), torch.randn(N, K, H).double()
    look = attention(hidden, attention.remember(annotations))
    weights = {
        "W_a": attention.key.weight.detach().numpy(),
        "W_h": attention.query.weight.detach().numpy(),
        "b_att": attention.query.bias.detach().numpy(),
        "v": attention.score.weight[0].detach().numpy(),
    }
    for n, k in np.ndindex(N, K):
        alpha, context = reference.attend(
            weights, annotations[n].numpy(), hidden[n, k].numpy(), nonlinearity
        )
        np.testing.assert_allclose(look.alpha[n, k].detach(), alpha, atol=1e-12)
        np.testing.assert_allclose(look.context[n, k].detach(), context, atol=1e-12)


def test_alpha_is_a_distribution_even_for_huge_annotations(parts):
    attention, annotations, hidden = parts
    for scale in (1, 1e4):
        alpha = attention(hidden, attention.remember(annotations * scale)).alpha
        assert alpha.min() >= 0
        torch.testing.assert_close(alpha.sum(-1), torch.ones(N, K).double(), rtol=0, atol=1e-12)


def test_equal_annotations_are_looked_at_equally(parts):
    attention, annotations, hidden = parts
    same = annotations[:, :1].expand(-1, L, -1)
    look = attention(hidden, attention.remember(same))
    torch.testing.assert_close(look.alpha, torch.full((N, K, L), 1 / L).double())
    torch.testing.assert_close(look.context, same[:, :K])


def test_locations_may_come_in_any_order(parts):
    attention, annotations, hidden = parts
    order = torch.randperm(L)
    look = attention(hidden, attention.remember(annotations))
    shuffled = attention(hidden, attention.remember(annotations[:, order]))
    torch.testing.assert_close(shuffled.alpha, look.alpha[..., order])
    torch.testing.assert_close(shuffled.context, look.context)


def test_alpha_is_in_single_precision_under_autocast():
    attention = SoftAttention(D, H, A)
    with torch.autocast("cpu", torch.bfloat16):
        look = attention(torch.randn(N, K, H), attention.remember(torch.randn(N, L, D)))
    assert look.alpha.dtype == torch.float32
    torch.testing.assert_close(look.alpha.sum(-1), torch.ones(N, K), rtol=0, atol=1e-6)
