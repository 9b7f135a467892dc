from __future__ import annotations

import pytest
import torch
from test_cells import D, E, H, K, N, inputs
from torch import nn

from captioner.models.lstm import LSTMCell, State


@pytest.fixture
def cell() -> LSTMCell:
    return LSTMCell(E, D, H, forget_bias=1.0).double()


def test_it_equals_torchs_cell_with_its_gates_in_another_order(cell: LSTMCell):
    word, context, state = inputs()
    after, _ = cell(cell.embed(word), cell.context(context), state)
    theirs = nn.LSTMCell(E + D, H, dtype=torch.float64)
    i, f, o, g = range(4)
    order = torch.cat([torch.arange(H) + gate * H for gate in (i, f, g, o)])  # torch's
    with torch.no_grad():
        theirs.weight_ih.copy_(torch.cat([cell.embed.weight, cell.context.weight], 1)[order])
        theirs.weight_hh.copy_(cell.recur.weight[order])
        theirs.bias_ih.copy_(cell.embed.bias[order])
        theirs.bias_hh.zero_()
    flat = (part.reshape(N * K, -1) for part in state)
    hidden, memory = theirs(torch.cat([word, context], -1).reshape(N * K, -1), tuple(flat))
    torch.testing.assert_close(after.hidden, hidden.view(N, K, H))
    torch.testing.assert_close(after.cell, memory.view(N, K, H))


def test_the_belt_and_the_hidden_state_follow_from_the_gates_it_shows(cell: LSTMCell):
    word, context, state = inputs()
    after, gates = cell(cell.embed(word), cell.context(context), state)
    belt = gates.forget * state.cell + gates.input * gates.candidate
    torch.testing.assert_close(after.cell, belt, rtol=0, atol=0)
    torch.testing.assert_close(after.hidden, gates.output * belt.tanh(), rtol=0, atol=0)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_gates_stay_within_their_bounds(cell: LSTMCell, scale: float):
    word, context, state = inputs(scale)
    after, gates = cell(cell.embed(word), cell.context(context), state)
    for gate in (gates.input, gates.forget, gates.output):
        assert gate.min() >= 0 and gate.max() <= 1
    assert gates.candidate.abs().max() <= 1
    assert after.hidden.abs().max() <= 1
    assert (after.cell.abs() <= state.cell.abs() + 1).all()


@pytest.mark.parametrize("forget_bias", [0.0, 1.0])
def test_the_forget_bias_is_that_of_the_forget_gate_alone(forget_bias: float):
    cell = LSTMCell(E, D, H, forget_bias)
    nothing = torch.zeros(N, K, H)
    word, context = cell.embed(torch.zeros(N, K, E)), cell.context(torch.zeros(N, K, D))
    _, gates = cell(word, context, State(nothing, nothing))
    half = torch.full((N, K, H), 0.5)
    torch.testing.assert_close(gates.forget, torch.sigmoid(nothing + forget_bias))
    torch.testing.assert_close(gates.input, half)
    torch.testing.assert_close(gates.output, half)
    torch.testing.assert_close(gates.candidate, nothing)
