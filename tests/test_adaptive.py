from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captioner.models.adaptive import AdaptiveAttention
from captioner.models.attention import Look, SoftAttention
from captioner.models.lstm import State

N, K, L, D, H, A, E = 2, 3, 9, 6, 8, 5, 7


@pytest.fixture
def attention() -> AdaptiveAttention:
    return AdaptiveAttention(D, H, A, "tanh", E).double()


def look(attention: AdaptiveAttention, annotations: Tensor, **changed: Tensor) -> Look:
    torch.manual_seed(1)
    parts = {"hidden": torch.randn(N, K, H), "cell": torch.randn(N, K, H)}
    parts = {k: v.double() for k, v in {**parts, "word": torch.randn(N, K, E), **changed}.items()}
    state = State(parts["hidden"], parts["cell"])
    return attention(state, parts["word"], attention.remember(annotations))


@pytest.fixture
def annotations() -> Tensor:
    return torch.randn(N, L, D).double()


def test_shares_of_image_and_sentinel_sum_to_one(attention, annotations):
    """A sentinel that scores like each of L equal annotations gets 1 of L + 1 shares."""
    same = annotations[:, :1].expand(-1, L, -1)
    with torch.no_grad():
        attention.score.weight.zero_()
    beta = look(attention, same).beta
    torch.testing.assert_close(beta, torch.full((N, K, 1), L / (L + 1)).double())


@pytest.mark.parametrize(("sign", "beta"), [(1, 0.0), (-1, 1.0)])
def test_the_sentinel_takes_the_place_of_the_image_as_far_as_it_scores(
    attention, annotations, sign: int, beta: float
):
    """c pushes the sentinel's score far up or down; annotations score nothing."""
    with torch.no_grad():
        attention.key.weight.zero_()
        attention.query.weight.zero_()
        attention.gate.bias.fill_(1e3)  # open
        attention.sentinel_key.weight.fill_(1.0)
        attention.score.weight.fill_(100.0)
    cell = torch.full((N, K, H), 10.0 * sign)  # tanh is ±1
    seen = look(attention, annotations, cell=cell)
    torch.testing.assert_close(seen.beta, torch.full((N, K, 1), beta).double())
    torch.testing.assert_close(seen.alpha, torch.full((N, K, L), 1 / L).double())
    sentinel = attention.sentinel_value.weight.sum(-1) * sign
    mean = annotations.mean(1)[:, None].expand(-1, K, -1)
    expected = mean if beta else sentinel.expand(N, K, -1)
    torch.testing.assert_close(seen.context, expected)


def test_alpha_is_that_of_soft_attention_whatever_the_sentinel_says(attention, annotations):
    soft = SoftAttention(D, H, A).double()
    soft.load_state_dict(attention.state_dict(), strict=False)
    hidden = torch.randn(N, K, H).double()
    expected = soft(State(hidden, hidden), hidden, soft.remember(annotations)).alpha
    for cell in (torch.zeros(N, K, H), 5 * torch.randn(N, K, H)):
        torch.testing.assert_close(
            look(attention, annotations, hidden=hidden, cell=cell).alpha, expected
        )


@pytest.mark.parametrize("part", ["word", "hidden", "cell"])
def test_the_sentinel_sees_the_word_the_hidden_state_and_the_cell(attention, annotations, part):
    size = E if part == "word" else H
    usual, other = (
        look(attention, annotations),
        look(attention, annotations, **{part: torch.ones(N, K, size)}),
    )
    assert (usual.beta - other.beta).abs().min() > 1e-6
    assert torch.equal(usual.alpha, other.alpha) == (part != "hidden")
