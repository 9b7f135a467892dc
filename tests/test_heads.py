from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from captioner.models.attention import SoftAttention
from captioner.models.heads import DotAttention, MultiHeadAttention
from captioner.models.lstm import State

N, K, L, D, H, A = 2, 3, 9, 12, 8, 6
WORD = torch.zeros(N, K, 1)  # which no head looks at


@pytest.fixture
def state() -> State:
    return State(torch.randn(N, K, H).double(), torch.zeros(N, K, H).double())


@pytest.fixture
def annotations() -> Tensor:
    return torch.randn(N, L, D).double()


def test_dot_attention_equals_torchs(state: State, annotations: Tensor):
    attention = DotAttention(D, H, A, heads=3).double()
    memory = attention.remember(annotations)
    look = attention(state, WORD, memory)
    query = attention.query(state.hidden).view(N, K, 3, A // 3).transpose(1, 2)
    expected = F.scaled_dot_product_attention(query, memory.keys, memory.values)
    torch.testing.assert_close(look.context, expected.transpose(1, 2).reshape(N, K, D))


def test_one_additive_head_is_soft_attention_to_the_values(state: State, annotations: Tensor):
    heads, soft = MultiHeadAttention(D, H, A).double(), SoftAttention(D, H, A).double()
    soft.load_state_dict({k: v for k, v in heads.state_dict().items() if "value" not in k})
    look = heads(state, WORD, heads.remember(annotations))
    expected = soft(state, WORD, soft.remember(annotations))
    torch.testing.assert_close(look.alpha, expected.alpha)
    torch.testing.assert_close(look.context, heads.value(expected.context))


@pytest.mark.parametrize("kind", [DotAttention, MultiHeadAttention])
def test_heads_look_apart_and_their_mean_is_shown(kind: type, state: State, annotations: Tensor):
    """Each head alone, its weights cut out, looks where its part of the context comes from."""
    attention, alphas = kind(D, H, A, heads=3).double(), []
    with torch.no_grad():
        attention.query.weight.mul_(5)
    look = attention(state, WORD, attention.remember(annotations))
    for j, part in enumerate(look.context.chunk(3, dim=-1)):
        one = kind(D, H, A // 3, heads=1).double()
        one.value = torch.nn.Linear(D, D // 3, bias=False).double()
        with torch.no_grad():
            for name in ("key", "query", "value"):
                rows = getattr(attention, name).weight.chunk(3)[j]
                getattr(one, name).weight.copy_(rows)
            one.query.bias.copy_(attention.query.bias.chunk(3)[j])
            if kind is MultiHeadAttention:
                one.score.weight.copy_(attention.score.weight[j : j + 1])
        alone = one(state, WORD, one.remember(annotations))
        torch.testing.assert_close(alone.context, part)
        alphas.append(alone.alpha)
    torch.testing.assert_close(look.alpha, sum(alphas) / 3)
    assert (alphas[0] - alphas[1]).abs().max() > 0.01


@pytest.mark.parametrize(("annotation", "attention"), [(12, 7), (10, 6)])
def test_heads_that_do_not_divide_the_sizes_are_named(annotation: int, attention: int):
    with pytest.raises(ValueError, match=r"decoder\.heads is 3; it must divide") as caught:
        MultiHeadAttention(annotation, H, attention, heads=3)
    assert f", {attention}, " in str(caught.value) and f", {annotation} " in str(caught.value)
