"""What stands around attention and cell: first state, gate on the context, and output (3.1.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captioner.models.lstm import State
from captioner.models.unrolled import StepLinear
from captioner.precision import at_least_float32


class Dropout(nn.Dropout):
    """`nn.Dropout`, in a third of the time on a CPU, where torch draws bit by bit.

    Here four numbers of 16 bits come from each draw, so p is a multiple of 2⁻¹⁶, the nearest.
    """

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or not self.p or values.device.type != "cpu":
            return super().forward(values)
        drawn = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        numbers = drawn.view(torch.int16)[: values.numel()].view(values.shape)
        kept = numbers >= round(self.p * 2**16) - 2**15
        return values * (kept / (1 - self.p)).to(values.dtype)


class InitialState(nn.Module):
    """h_0 and c_0: two perceptrons of the mean annotation vector (section 3.1.2).

    `shared` puts one hidden layer before the two heads, as the authors' code does. Without `cell`
    there is no head for c_0, which is then h_0.
    """

    def __init__(self, annotation: int, hidden: int, shared: bool = False, cell: bool = True):
        super().__init__()
        self.shared = nn.Linear(annotation, annotation) if shared else None
        self.hidden = nn.Linear(annotation, hidden)
        self.cell = nn.Linear(annotation, hidden) if cell else None

    def forward(self, annotations: Tensor, captions: int) -> State:
        """annotations: (N, L, D) → State of (N, K, H), the same for all K captions of an image."""
        mean = annotations.mean(1, keepdim=True)
        if self.shared is not None:
            mean = torch.tanh(self.shared(mean))
        heads = (self.hidden, self.cell or self.hidden)
        starts = (at_least_float32(torch.tanh(head(mean))) for head in heads)
        return State(*(start.expand(-1, captions, -1) for start in starts))


class ContextGate(nn.Module):
    """β_t = σ(f_β(h_{t-1})), section 4.2.1: how much the decoder listens to the image at all.

    The paper's β is one scalar per step. `size` = D makes it a vector over the context instead,
    a deviation that is common in later code; 0 leaves the gate out.
    """

    def __init__(self, hidden: int, size: int):
        super().__init__()
        self.gate = StepLinear(hidden, size) if size else None

    def forward(self, hidden: Tensor) -> Tensor:
        if self.gate is None:
            return hidden.new_ones(*hidden.shape[:-1], 1)
        return torch.sigmoid(self.gate(hidden))


class DeepOutput(nn.Module):
    """p(y_t) ∝ exp(L_o(E y_{t-1} + L_h h_t + L_z ẑ_t)), equation (7).

    Deviations, each named: `deep=False` reads h_t alone; `tanh` bends the sum, as the authors' code
    does; `tied` makes L_o the transpose of the embedding matrix E and adds a bias (Press and Wolf
    2017).
    """

    def __init__(
        self,
        embedding: nn.Embedding,
        hidden: int,
        context: int,
        deep: bool = True,
        tanh: bool = False,
        tied: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        vocabulary, size = embedding.weight.shape
        self.hidden = nn.Linear(hidden, size)  # L_h
        self.context = StepLinear(context, size, bias=False) if deep else None  # L_z
        self.words = nn.Linear(size, vocabulary, bias=tied)  # L_o
        if tied:
            self.words.weight = embedding.weight
            nn.init.zeros_(self.words.bias)
        self.tanh = tanh
        self.dropout = Dropout(dropout)

    def forward(self, embedded: Tensor, hidden: Tensor, context: Tensor) -> Tensor:
        """(…, E), (…, H) and `context` of ẑ_t, (…, E), → logits (…, V)."""
        total = self.hidden(self.dropout(hidden))
        if self.context is not None:
            total = total + embedded + context
        if self.tanh:
            total = torch.tanh(total)
        return self.words(self.dropout(total))
