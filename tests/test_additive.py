"""The fast scores are v · tanh(k + q), and so are their gradients."""

from __future__ import annotations

import pytest
import torch

from captioner.models import additive
from captioner.models.additive import growth


def plain(query: torch.Tensor, keys: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.tanh(keys + query[:, :, None]) @ v


def tanh_scores(query: torch.Tensor, keys: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return additive.tanh_scores(query, growth(keys), v)


def given(
    shared: bool, scale: float = 1.0, dtype=torch.float64, images: int = 2
) -> list[torch.Tensor]:
    """q, k and v; keys of an image that its captions share, or keys of each caption."""
    shapes = [(images, 3, 5), (images, 1 if shared else 3, 4, 5), (5,)]
    return [(scale * torch.randn(shape, dtype=dtype)).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("shared", [True, False])
def test_values_and_gradients_are_those_of_the_formula(shared: bool):
    ours, theirs = tanh_scores(*(inputs := given(shared))), plain(*inputs)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(ours)
    for one, other in zip(
        torch.autograd.grad((ours * weights).sum(), inputs),
        torch.autograd.grad((theirs * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    assert torch.autograd.gradcheck(tanh_scores, inputs)
    with torch.no_grad():
        assert torch.equal(tanh_scores(*inputs), ours)
    assert ours.shape == (2, 3, 4)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("most", [1, 130, 260])  # numbers at once, of 60 for each image
def test_few_images_at_a_time_give_what_all_give(shared: bool, most: int, monkeypatch):
    def results() -> list[torch.Tensor]:
        scores = tanh_scores(query, keys, v)
        return [scores, *torch.autograd.grad(scores.square().sum(), (query, keys, v))]

    query, keys, v = given(shared, images=5)
    together, sizes = results(), []
    monkeypatch.setattr(additive, "PAIRS_AT_ONCE", most)
    r = additive._r
    monkeypatch.setattr(additive, "_r", lambda q, k: sizes.append(len(q)) or r(q, k))
    for one, other in zip(results(), together, strict=True):
        torch.testing.assert_close(one, other)
    assert sizes == 2 * {1: [1] * 5, 130: [2, 2, 1], 260: [4, 1]}[most]  # forward and backward


@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0])
def test_single_precision_is_kept(scale: float):
    inputs = given(True, scale, torch.float32)
    exact = plain(*(each.double() for each in inputs))
    largest = float(inputs[2].detach().abs().sum())
    torch.testing.assert_close(tanh_scores(*inputs).double(), exact, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_far_beyond_saturates_and_stays_finite(dtype: torch.dtype):
    q = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4], dtype=dtype).view(1, 5, 1).requires_grad_()
    k = torch.tensor([-100.0, 0.0, 100.0], dtype=dtype).view(1, 1, 3, 1).requires_grad_()
    v = torch.ones(1, dtype=dtype, requires_grad=True)
    scores = tanh_scores(q, k, v)
    same_sign = torch.tensor([[-1.0, -1.0, 0.0], [-1, 0, 1], [0, 1, 1]])
    assert torch.equal(scores[0, [1, 2, 3]].float(), same_sign)
    scores.sum().backward()
    assert all(each.grad.isfinite().all() for each in (q, k, v))


def test_half_precision_under_autocast_learns_the_same():
    inputs = given(True, dtype=torch.float32)
    query, keys, v = inputs
    gradients = []
    for enabled in (False, True):
        kind = torch.bfloat16 if enabled else torch.float32
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            scores = tanh_scores(query.to(kind), keys.to(kind), v)
        assert scores.dtype == torch.float32  # whatever it was given
        gradients.append(torch.autograd.grad(scores.square().sum(), inputs))
    for exact, rounded in zip(*gradients, strict=True):
        assert rounded.dtype == torch.float32
        assert (rounded - exact).norm() < 0.03 * exact.norm()
