from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from torch import Tensor, nn

from captioner.models.cells import CELLS, CoupledCell, GRUCell, PeepholeCell
from captioner.models.lstm import LSTMCell, State

N, K, E, D, H = 2, 3, 7, 6, 8
OTHERS = [name for name in CELLS if name != "lstm"]


def build(name: str, forget_bias: float = 1.0) -> LSTMCell:
    cell = CELLS[name](E, D, H, forget_bias).double()
    if name == "peephole":
        nn.init.normal_(cell.peepholes)
    return cell


def inputs(scale: float = 1.0) -> tuple[Tensor, Tensor, State]:
    """A word's embedding, a context vector and a state."""
    word, context = torch.randn(N, K, E).double(), torch.randn(N, K, D).double()
    state = State(torch.randn(N, K, H).double(), torch.randn(N, K, H).double())
    return word * scale, context * scale, State(*(part * scale for part in state))


@pytest.mark.parametrize("name", CELLS)
def test_it_equals_its_equations(name: str):
    cell = build(name)
    word, context, state = inputs()
    after, gates = cell(cell.embed(word), cell.context(context), state)
    weights = {
        "T_y": cell.embed.weight.detach().numpy(),
        "b": cell.embed.bias.detach().numpy(),
        "T_h": cell.recur.weight.detach().numpy(),
        "T_z": cell.context.weight.detach().numpy(),
    }
    if name == "peephole":
        peepholes = cell.peepholes.detach().numpy()
        weights |= dict(zip(("p_i", "p_f", "p_o"), peepholes, strict=True))
    ours = [*gates, after.cell, after.hidden]
    for at in np.ndindex(N, K):
        vectors = (part[at].numpy() for part in (word, state.hidden, context, state.cell))
        for got, expected in zip(ours, reference.CELLS[name](weights, *vectors), strict=True):
            np.testing.assert_allclose(got[at].detach(), expected, atol=1e-12)


def test_closed_peepholes_leave_an_lstm():
    peephole, lstm = PeepholeCell(E, D, H).double(), LSTMCell(E, D, H).double()
    assert not peephole.peepholes.any()
    lstm.load_state_dict({k: v for k, v in peephole.state_dict().items() if k != "peepholes"})
    word, context, state = inputs()
    for one, other in zip(
        peephole(peephole.embed(word), peephole.context(context), state),
        lstm(lstm.embed(word), lstm.context(context), state),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_a_gru_equals_torchs_where_its_reset_gate_is_open():
    """Torch resets U h behind the matrix, Cho et al. before it: the same where r is one."""
    cell, theirs = build("gru"), nn.GRUCell(E + D, H, dtype=torch.float64)
    word, context, state = inputs()
    with torch.no_grad():
        cell.embed.bias[H : 2 * H] = 1e3
        f, r, g = (slice(part * H, (part + 1) * H) for part in range(3))
        for ours, rows in zip((r, f, g), range(3), strict=True):  # torch's order
            there = slice(rows * H, (rows + 1) * H)
            theirs.weight_ih[there] = torch.cat(
                [cell.embed.weight[ours], cell.context.weight[ours]], dim=1
            )
            theirs.weight_hh[there] = cell.recur.weight[ours]
            theirs.bias_ih[there] = cell.embed.bias[ours]
        theirs.bias_hh.zero_()
    after, gates = cell(cell.embed(word), cell.context(context), state)
    flat = torch.cat([word, context], -1).view(N * K, -1), state.hidden.view(N * K, -1)
    torch.testing.assert_close(after.hidden, theirs(*flat).view(N, K, H))
    assert (gates.output == 1).all()


@pytest.mark.parametrize("name", ["coupled", "gru"])
def test_what_is_written_is_what_was_forgotten(name: str):
    cell = build(name)
    word, context, state = inputs()
    _, gates = cell(cell.embed(word), cell.context(context), state)
    assert torch.equal(gates.input, 1 - gates.forget)


def test_a_gru_has_one_memory():
    cell = build("gru")
    word, context, state = inputs()
    after, _ = cell(cell.embed(word), cell.context(context), state)
    assert after.hidden is after.cell
    other = State(state.hidden, torch.randn_like(state.cell))
    assert torch.equal(cell(cell.embed(word), cell.context(context), other)[0].hidden, after.hidden)
    assert {name: kind.keeps_cell for name, kind in CELLS.items()} == {
        "lstm": True, "peephole": True, "coupled": True, "gru": False,
    }  # fmt: skip


@pytest.mark.parametrize("scale", [1.0, 1e3])
@pytest.mark.parametrize("name", OTHERS)
def test_gates_stay_within_their_bounds(name: str, scale: float):
    cell = build(name)
    word, context, state = inputs(scale)
    after, gates = cell(cell.embed(word), cell.context(context), state)
    for gate in (gates.input, gates.forget, gates.output):
        assert gate.min() >= 0 and gate.max() <= 1
    assert gates.candidate.abs().max() <= 1
    memory = state.cell if cell.keeps_cell else state.hidden
    assert (after.cell.abs() <= memory.abs() + 1).all()


@pytest.mark.parametrize("forget_bias", [0.0, 1.0])
@pytest.mark.parametrize("kind", [PeepholeCell, CoupledCell, GRUCell])
def test_the_forget_bias_is_that_of_the_forget_gate_alone(kind: type, forget_bias: float):
    cell, nothing = kind(E, D, H, forget_bias), torch.zeros(N, K, H)
    word, context = cell.embed(torch.zeros(N, K, E)), cell.context(torch.zeros(N, K, D))
    _, gates = cell(word, context, State(nothing, nothing))
    forget = torch.sigmoid(nothing + forget_bias)
    torch.testing.assert_close(gates.forget, forget)
    coupled = kind is not PeepholeCell
    torch.testing.assert_close(gates.input, 1 - forget if coupled else torch.full_like(forget, 0.5))
    torch.testing.assert_close(gates.output, torch.full_like(forget, 0.5))
    torch.testing.assert_close(gates.candidate, nothing)
