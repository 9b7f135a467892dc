"""The LSTM cell, with its gates in plain sight (Xu et al. 2015, equations (1)–(3)).

Other cells, behind the same two methods, are in cells.py.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from captioner.models.unrolled import StepLinear


class State(NamedTuple):
    """The two memories of the decoder."""

    hidden: Tensor  # (N, K, H)  h, short-term: what the next step sees
    cell: Tensor  # (N, K, H)  c, long-term: the conveyor belt, changed only by products and sums


class Gates(NamedTuple):
    """What one step decided. Each (N, K, H)."""

    input: Tensor  # i ∈ (0, 1): how much of the candidate is written
    forget: Tensor  # f ∈ (0, 1): how much of the old cell is kept
    output: Tensor  # o ∈ (0, 1): how much of the cell is shown as hidden state
    candidate: Tensor  # g ∈ (−1, 1): what would be written


class LSTMCell(nn.Module):
    r"""One step of the LSTM, with T the affine map of equation (1) split over its three inputs:

        (i, f, o, g) = (σ, σ, σ, tanh)(T_y E y_{t-1} + T_h h_{t-1} + T_z ẑ_t + b)      (1)
        c_t = f ⊙ c_{t-1} + i ⊙ g                                                      (2)
        h_t = o ⊙ tanh(c_t)                                                            (3)

    T_y E y_{t-1} + b needs no recurrence, so `embed` may be called on all steps at once, and T_z is
    linear, so `context` may be called on what ẑ_t is a sum of.
    `forget_bias` starts b at that value for the forget gate: 0 as in the paper; 1 keeps the belt
    moving early in training (Jozefowicz et al. 2015).
    """

    rows = "ifog"  # of T, H for each
    keeps_cell = True  # c is a memory of its own, apart from h

    def __init__(self, embedding: int, context: int, hidden: int, forget_bias: float = 0.0):
        super().__init__()
        size = len(self.rows) * hidden
        self.embed = nn.Linear(embedding, size)  # T_y, b
        both = nn.Linear(hidden + context, size, bias=False).weight.detach()  # drawn as one matrix
        unset = {"bias": False, "device": both.device}
        self.recur = skip_init(StepLinear, hidden, size, **unset)  # T_h
        self.context = skip_init(StepLinear, context, size, **unset)  # T_z
        first = self.rows.index("f") * hidden
        with torch.no_grad():
            self.recur.weight[:], self.context.weight[:] = both.split([hidden, context], dim=1)
            self.embed.bias.zero_()
            self.embed.bias[first : first + hidden] = forget_bias

    def forward(self, embedded: Tensor, context: Tensor, state: State) -> tuple[State, Gates]:
        """embedded and context: `embed` of the previous word and `context` of ẑ_t, (N, K, 4H)."""
        drive = embedded + context + self.recur(state.hidden)
        sigmoids, candidate = drive.split([3 * state.cell.shape[-1], state.cell.shape[-1]], dim=-1)
        i, f, o = torch.sigmoid(sigmoids).chunk(3, dim=-1)
        g = torch.tanh(candidate)
        cell = f * state.cell + i * g
        return State(o * torch.tanh(cell), cell), Gates(i, f, o, g)
