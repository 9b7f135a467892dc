"""Other cells in the LSTM's place, so that each of its gates can be put to the question.

All are called as `LSTMCell` is, and name what they decide as it does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captioner.models.lstm import Gates, LSTMCell, State


class PeepholeCell(LSTMCell):
    r"""An LSTM whose gates see the memory that they guard (Gers and Schmidhuber 2000):

        i = σ(… + p_i ⊙ c_{t-1}),   f = σ(… + p_f ⊙ c_{t-1}),   o = σ(… + p_o ⊙ c_t)

    where … is the affine map of equation (1), and the rest as in `LSTMCell`. The peepholes p start
    closed, at zero.
    """

    def __init__(self, embedding: int, context: int, hidden: int, forget_bias: float = 0.0):
        super().__init__(embedding, context, hidden, forget_bias)
        self.peepholes = nn.Parameter(torch.zeros(3, hidden))  # p_i, p_f, p_o

    def forward(self, embedded: Tensor, context: Tensor, state: State) -> tuple[State, Gates]:
        """As `LSTMCell.forward`."""
        drive = embedded + context + self.recur(state.hidden)
        i, f, o, g = drive.chunk(4, dim=-1)
        p_i, p_f, p_o = self.peepholes
        i, f = torch.sigmoid(i + p_i * state.cell), torch.sigmoid(f + p_f * state.cell)
        g = torch.tanh(g)
        cell = f * state.cell + i * g
        o = torch.sigmoid(o + p_o * cell)
        return State(o * torch.tanh(cell), cell), Gates(i, f, o, g)


class CoupledCell(LSTMCell):
    r"""An LSTM that writes just as much as it forgets, i = 1 − f (Greff et al. 2017, CIFG)."""

    rows = "fog"

    def forward(self, embedded: Tensor, context: Tensor, state: State) -> tuple[State, Gates]:
        """As `LSTMCell.forward`, with (N, K, 3H)."""
        drive = embedded + context + self.recur(state.hidden)
        f, o, g = drive.chunk(3, dim=-1)
        f, o, g = torch.sigmoid(f), torch.sigmoid(o), torch.tanh(g)
        i = 1 - f
        cell = f * state.cell + i * g
        return State(o * torch.tanh(cell), cell), Gates(i, f, o, g)


class GRUCell(LSTMCell):
    r"""The gated recurrent unit (Cho et al. 2014, equations (5)–(8)), with one memory, h = c:

        f, r = σ(T_y E y_{t-1} + T_h h_{t-1} + T_z ẑ_t + b)
        g = tanh(T_y E y_{t-1} + T_h (r ⊙ h_{t-1}) + T_z ẑ_t + b)
        h_t = c_t = f ⊙ h_{t-1} + (1 − f) ⊙ g

    Their update gate z, the share of the memory that is kept, is named the forget gate f here, and
    1 − z the input gate. Their reset gate r stands where an LSTM has its output gate: it is how
    much of the memory is shown, though to the candidate and not to the word, which sees all.
    """

    rows = "frg"
    keeps_cell = False

    def forward(self, embedded: Tensor, context: Tensor, state: State) -> tuple[State, Gates]:
        """As `LSTMCell.forward`, with (N, K, 3H)."""
        sizes = [2 * state.hidden.shape[-1], state.hidden.shape[-1]]
        of_gates, of_candidate = self.recur.weight.split(sizes)
        to_gates, to_candidate = (embedded + context).split(sizes, dim=-1)
        f, r = torch.sigmoid(to_gates + F.linear(state.hidden, of_gates)).chunk(2, dim=-1)
        g = torch.tanh(to_candidate + F.linear(r * state.hidden, of_candidate))
        i = 1 - f
        hidden = f * state.hidden + i * g
        return State(hidden, hidden), Gates(i, f, r, g)


CELLS = {"lstm": LSTMCell, "peephole": PeepholeCell, "coupled": CoupledCell, "gru": GRUCell}
