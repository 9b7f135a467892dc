from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from torch import Tensor, nn

from captioner.models.attention import NoAttention, SoftAttention
from captioner.models.kinds import build_attention
from captioner.models.lstm import State

N, K, L, D, H, A, E = 2, 3, 9, 6, 8, 4, 7
KINDS = ("soft", "hard", "multihead", "dot", "adaptive", "none")


def build(kind: str, **options: str | int | float) -> nn.Module:
    """Attention at rest, in double precision."""
    defaults = {"nonlinearity": "tanh", "heads": 2, "estimator": "reinforce"}
    defaults |= {"expectation": 0.5, "temperature": 1.0}
    return build_attention(kind, D, H, A, E, **{**defaults, **options}).double().eval()


def inputs() -> tuple[State, Tensor, Tensor]:
    """A state, the words before and annotations, in double precision."""
    state = State(torch.randn(N, K, H).double(), torch.randn(N, K, H).double())
    return state, torch.randn(N, K, E).double(), torch.randn(N, L, D).double()


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_soft_attention_equals_the_equations(nonlinearity: str):
    attention = build("soft", nonlinearity=nonlinearity)
    state, word, annotations = inputs()
    look = attention(state, word, attention.remember(annotations))
    weights = {
        "W_a": attention.key.weight.detach().numpy(),
        "W_h": attention.query.weight.detach().numpy(),
        "b_att": attention.query.bias.detach().numpy(),
        "v": attention.score.weight[0].detach().numpy(),
    }
    for n, k in np.ndindex(N, K):
        vectors = (part[n, k].numpy() for part in (word, *state))
        seen = reference.Seen(annotations[n].numpy(), *vectors)
        expected = reference.soft(weights, seen, nonlinearity, heads=1)
        np.testing.assert_allclose(look.alpha[n, k].detach(), expected.alpha, atol=1e-12)
        np.testing.assert_allclose(look.context[n, k].detach(), expected.context, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_alpha_is_a_distribution_even_for_huge_annotations(kind: str):
    attention = build(kind)
    state, word, annotations = inputs()
    for scale in (1, 1e4):
        alpha = attention(state, word, attention.remember(annotations * scale)).alpha
        assert alpha.shape == (N, K, L) and alpha.min() >= 0
        torch.testing.assert_close(alpha.sum(-1), torch.ones(N, K).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_annotations_are_looked_at_equally(kind: str):
    attention = build(kind)
    state, word, annotations = inputs()
    same = annotations[:, :1].expand(-1, L, -1)
    look = attention(state, word, attention.remember(same))
    torch.testing.assert_close(look.alpha, torch.full((N, K, L), 1 / L).double())
    if kind in ("soft", "hard", "none"):  # which read the annotations themselves
        torch.testing.assert_close(look.context, same[:, :K])


@pytest.mark.parametrize("kind", KINDS)
def test_locations_may_come_in_any_order(kind: str):
    attention = build(kind)
    state, word, annotations = inputs()
    order = torch.randperm(L)
    look = attention(state, word, attention.remember(annotations))
    shuffled = attention(state, word, attention.remember(annotations[:, order]))
    torch.testing.assert_close(shuffled.alpha, look.alpha[..., order])
    torch.testing.assert_close(shuffled.context, look.context)


@pytest.mark.parametrize("kind", KINDS)
def test_memories_have_a_row_per_image_and_begin_with_the_annotations(kind: str):
    """Search drops the images that are done, part by part."""
    attention = build(kind)
    state, word, annotations = inputs()
    memory = attention.remember(annotations)
    assert torch.equal(memory.annotations, annotations) and memory[0] is memory.annotations
    second = memory._make(part[1:] for part in memory)
    alone = attention(State(*(part[1:] for part in state)), word[1:], second)
    torch.testing.assert_close(alone.context, attention(state, word, memory).context[1:])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_alpha_is_in_single_precision_under_autocast(kind: str, training: bool):
    attention = build(kind).float().train(training)
    state, word, annotations = (
        State(*(part.float() for part in each)) if isinstance(each, State) else each.float()
        for each in inputs()
    )
    with torch.autocast("cpu", torch.bfloat16):
        look = attention(state, word, attention.remember(annotations))
    assert look.alpha.dtype == torch.float32
    torch.testing.assert_close(look.alpha.sum(-1), torch.ones(N, K), rtol=0, atol=1e-6)


def test_without_attention_the_mean_is_seen_whatever_is_asked():
    state, word, annotations = inputs()
    look = NoAttention()(state, word, NoAttention().remember(annotations))
    torch.testing.assert_close(look.context, annotations.mean(1)[:, None].expand(-1, K, -1))
    assert (look.alpha == 1 / L).all()


def test_each_kind_is_a_class_of_its_own():
    assert len({type(build(kind)) for kind in KINDS}) == len(KINDS)
    assert type(build("soft")) is SoftAttention
