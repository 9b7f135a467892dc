from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from captioner.schedule import clip_gradients


@pytest.mark.parametrize("largest", [0.5, 100.0])
def test_gradients_are_clipped_as_torch_does(largest: float):
    ours, theirs = ([nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(5))] for _ in range(2))
    for one, other in zip(ours, theirs, strict=True):
        one.grad = torch.randn_like(one)
        other.grad = one.grad.clone()
    ours.append(nn.Parameter(torch.ones(2)))  # which nothing was learnt of
    expected = nn.utils.clip_grad_norm_(theirs, largest)
    assert clip_gradients(ours, largest) == pytest.approx(float(expected))
    for one, other in zip(ours, theirs, strict=False):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_norm_that_is_no_number_is_told():
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([1.0, float("nan")])
    assert math.isnan(clip_gradients([weight], 1.0))
