from __future__ import annotations

import torch

from captioner.models.parts import Dropout


def test_as_many_are_dropped_as_is_said_and_the_mean_stays():
    torch.manual_seed(0)
    dropped = Dropout(0.3)(torch.ones(100_000))
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.7).item()}
    assert abs((dropped == 0).float().mean() - 0.3) < 0.01
    assert abs(dropped.mean() - 1) < 0.02


def test_a_gradient_goes_through_what_was_kept():
    values = torch.randn(1000, requires_grad=True)
    dropped = Dropout(0.5)(values)
    dropped.sum().backward()
    assert torch.equal(values.grad, 2.0 * (dropped != 0))


def test_each_time_others_and_from_the_seed():
    drop, values = Dropout(0.5), torch.ones(64)
    torch.manual_seed(1)
    first, second = drop(values), drop(values)
    torch.manual_seed(1)
    assert torch.equal(drop(values), first) and not torch.equal(first, second)


def test_half_precision_stays():
    assert Dropout(0.5)(torch.ones(8, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_where_nothing_is_dropped_nothing_is_drawn():
    values = torch.randn(8)
    state = torch.get_rng_state()
    assert Dropout(0.5).eval()(values) is values
    assert torch.equal(Dropout(0.0)(values), values)
    assert torch.equal(torch.get_rng_state(), state)
