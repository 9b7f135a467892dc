"""Averaged weights follow their formula and come and go without a trace."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from captioner.averaging import AveragedWeights


def set_all(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


def test_the_average_is_that_of_the_formula():
    model, mean, decay = nn.Linear(2, 1), 3.0, 0.5
    set_all(model, mean)
    average = AveragedWeights(model, decay)
    for updates, value in enumerate([5.0, -1.0, 2.0, 8.0, 8.0, 0.5, 4.0, 1.0, 7.0], start=1):
        set_all(model, value)
        average.update(updates)
        d = min(decay, (1 + updates) / (10 + updates))
        mean = d * mean + (1 - d) * value
        with average.applied():
            assert model.weight.flatten().tolist() == pytest.approx([mean, mean], rel=1e-5)
            assert model.bias.item() == pytest.approx(mean, rel=1e-5)
    assert d == decay  # the warm-up was left behind on the way


def test_the_live_weights_come_back_exactly_even_after_a_failure():
    model = nn.Linear(5, 3)
    average = AveragedWeights(model, 0.9)
    nn.init.normal_(model.weight)
    average.update(100)
    live, mean = model.weight.clone(), average.mean[0].clone()
    assert not torch.equal(live, mean)
    with pytest.raises(ZeroDivisionError), average.applied():
        assert torch.equal(model.weight, mean) and torch.equal(average.mean[0], live)
        raise ZeroDivisionError
    assert torch.equal(model.weight, live) and torch.equal(average.mean[0], mean)


def test_frozen_weights_are_left_alone_and_tied_ones_stay_tied():
    model = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)])
    model[0].requires_grad_(False)
    model[2].weight = model[1].weight
    average = AveragedWeights(model, 0.9)
    frozen = model[0].weight.clone()
    set_all(model[1], 1.0)
    average.update(1)
    with average.applied():
        assert torch.equal(model[0].weight, frozen)
        assert model[2].weight is model[1].weight
    assert (model[1].weight == 1).all() and len(average.mean) == 3
