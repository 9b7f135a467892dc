from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from torch import nn

from captioner.models.lstm import LSTMCell, State

N, K, E, D, H = 2, 3, 7, 6, 8


@pytest.fixture
def cell() -> LSTMCell:
    return LSTMCell(E, D, H, forget_bias=1.0).double()


def inputs(scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, State]:
    """A word's embedding, a context vector and a state."""
    word, context = torch.randn(N, K, E).double(), torch.randn(N, K, D).double()
    state = State(torch.randn(N, K, H).double(), torch.randn(N, K, H).double())
    return word * scale, context * scale, State(*(part * scale for part in state))


def test_it_equals_the_equations(cell: LSTMCell):
    word, context, state = inputs()
    after, gates = cell(cell.embed(word), context, state)
    recur = cell.recur.weight.detach().numpy()
    weights = {
        "T_y": cell.embed.weight.detach().numpy(),
        "b": cell.embed.bias.detach().numpy(),
        "T_h": recur[:, :H],
        "T_z": recur[:, H:],
    }
    ours = [*gates, after.cell, after.hidden]
    for at in np.ndindex(N, K):
        vectors = (part[at].numpy() for part in (word, state.hidden, context, state.cell))
        for got, expected in zip(ours, reference.lstm(weights, *vectors), strict=True):
            np.testing.assert_allclose(got[at].detach(), expected, atol=1e-12)


def test_it_equals_torchs_cell_with_its_gates_in_another_order(cell: LSTMCell):
    word, context, state = inputs()
    after, _ = cell(cell.embed(word), context, state)
    theirs = nn.LSTMCell(E + D, H, dtype=torch.float64)
    i, f, o, g = range(4)
    order = torch.cat([torch.arange(H) + gate * H for gate in (i, f, g, o)])  # torch's
    with torch.no_grad():
        theirs.weight_ih.copy_(torch.cat([cell.embed.weight, cell.recur.weight[:, H:]], 1)[order])
        theirs.weight_hh.copy_(cell.recur.weight[order, :H])
        theirs.bias_ih.copy_(cell.embed.bias[order])
        theirs.bias_hh.zero_()
    flat = (part.reshape(N * K, -1) for part in state)
    hidden, memory = theirs(torch.cat([word, context], -1).reshape(N * K, -1), tuple(flat))
    torch.testing.assert_close(after.hidden, hidden.view(N, K, H))
    torch.testing.assert_close(after.cell, memory.view(N, K, H))


def test_the_belt_and_the_hidden_state_follow_from_the_gates_it_shows(cell: LSTMCell):
    word, context, state = inputs()
    after, gates = cell(cell.embed(word), context, state)
    belt = gates.forget * state.cell + gates.input * gates.candidate
    torch.testing.assert_close(after.cell, belt, rtol=0, atol=0)
    torch.testing.assert_close(after.hidden, gates.output * belt.tanh(), rtol=0, atol=0)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_gates_stay_within_their_bounds(cell: LSTMCell, scale: float):
    word, context, state = inputs(scale)
    after, gates = cell(cell.embed(word), context, state)
    for gate in (gates.input, gates.forget, gates.output):
        assert gate.min() >= 0 and gate.max() <= 1
    assert gates.candidate.abs().max() <= 1
    assert after.hidden.abs().max() <= 1
    assert (after.cell.abs() <= state.cell.abs() + 1).all()


@pytest.mark.parametrize("forget_bias", [0.0, 1.0])
def test_the_forget_bias_is_that_of_the_forget_gate_alone(forget_bias: float):
    cell = LSTMCell(E, D, H, forget_bias)
    nothing = torch.zeros(N, K, H)
    cell_input = cell.embed(torch.zeros(N, K, E))
    _, gates = cell(cell_input, torch.zeros(N, K, D), State(nothing, nothing))
    half = torch.full((N, K, H), 0.5)
    torch.testing.assert_close(gates.forget, torch.sigmoid(nothing + forget_bias))
    torch.testing.assert_close(gates.input, half)
    torch.testing.assert_close(gates.output, half)
    torch.testing.assert_close(gates.candidate, nothing)
