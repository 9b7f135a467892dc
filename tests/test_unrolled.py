"""Within `unrolled` gradients are those of autograd, taken once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captioner.models.unrolled import StepLinear, StepSum, unrolled


class Loop(nn.Module):
    """h_t = tanh(W h_{t-1} + b + α_t A), with α_t = softmax(Q h_{t-1}), in three steps."""

    def __init__(self):
        super().__init__()
        self.recur, self.look, self.read = StepLinear(5, 5), StepLinear(5, 4, bias=False), StepSum()
        self.unused = StepLinear(5, 5)

    def forward(self, hidden: Tensor, annotations: Tensor) -> Tensor:
        for captions in (3, 2, 2):  # the last of each image's has ended
            hidden = hidden[:, :captions]
            context = self.read(self.look(hidden).softmax(-1), annotations)
            hidden = torch.tanh(self.recur(hidden) + context)
        return hidden


def gradients(loop: Loop, hidden: Tensor, annotations: Tensor, once: bool) -> list[Tensor | None]:
    if once:
        with unrolled(loop):
            result = loop(hidden, annotations)
    else:
        result = loop(hidden, annotations)
    inputs = [part for part in (hidden, annotations) if part.requires_grad]
    return torch.autograd.grad(
        result.square().sum(), [*inputs, *loop.parameters()], allow_unused=True
    )


@pytest.mark.parametrize("learnt", [True, False])
def test_gradients_are_those_of_autograd(learnt: bool):
    loop = Loop().double()
    hidden = torch.randn(2, 3, 5).double().requires_grad_()
    annotations = torch.randn(2, 4, 5).double().requires_grad_(learnt)
    ours, theirs = (gradients(loop, hidden, annotations, once) for once in (True, False))
    assert [part is None for part in ours] == [part is None for part in theirs]
    assert sum(part is None for part in ours) == 2  # weight and bias of what was not used
    for one, other in zip(ours, theirs, strict=True):
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_weight_has_one_product_for_all_steps(monkeypatch):
    products = []
    loop, hidden, annotations = Loop(), torch.randn(2, 3, 5), torch.randn(2, 4, 5).requires_grad_()
    matmul = Tensor.__matmul__
    monkeypatch.setattr(
        Tensor, "__matmul__", lambda a, b: products.append((a.shape, b.shape)) or matmul(a, b)
    )
    gradients(loop, hidden, annotations, once=True)
    rows = 2 * (3 + 2 + 2)
    assert products.count(((5, rows), (rows, 5))) == 1  # ∂L/∂W
    assert products.count(((4, rows), (rows, 5))) == 1  # ∂L/∂Q
    assert products.count(((2, 5, 7), (2, 7, 4))) == 1  # ∂L/∂A, of each image


def test_nothing_is_kept_for_what_does_not_learn():
    loop = Loop()
    for part in loop.parameters():
        part.requires_grad_(False)
    hidden = torch.randn(2, 3, 5).requires_grad_()
    with unrolled(loop):
        loop(hidden, torch.randn(2, 4, 5)).sum().backward()
        assert loop.recur.shared[-1] == loop.read.shared[-1] == []
    assert hidden.grad is not None


def test_behind_the_block_and_without_gradients_all_is_as_ever():
    loop, hidden, annotations = Loop(), torch.randn(2, 3, 5), torch.randn(2, 4, 5)
    with unrolled(loop), torch.no_grad():
        pass
    assert loop.recur.shared is None and not loop.recur.unrolled
    with torch.no_grad(), unrolled(loop):
        expected = loop(hidden, annotations)
        assert loop.recur.shared is None
    torch.testing.assert_close(loop(hidden, annotations), expected)
