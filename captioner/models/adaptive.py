"""Adaptive attention: a visual sentinel to look at when there is nothing to see."""

from __future__ import annotations

import torch
from torch import Tensor

from captioner.models.attention import Look, Memory, SoftAttention
from captioner.models.lstm import State
from captioner.models.unrolled import StepLinear


class AdaptiveAttention(SoftAttention):
    r"""Soft attention that may turn from the image to the memory (Lu et al. 2017, section 2.3):

        s_t = σ(W_x E y_{t-1} + W_g h_{t-1} + b_g) ⊙ tanh(c_{t-1})           the visual sentinel
        e_t0 = v · f(W_s s_t + W_h h_{t-1} + b)                              its score
        1 − β_t = exp(e_t0) / (exp(e_t0) + Σ_i exp(e_ti))                    its share
        ẑ_t = β_t Σ_i α_ti a_i + (1 − β_t) P s_t

    with e_ti and α_t as in `SoftAttention`; α_t sums to one without the sentinel. This β_t is one
    minus theirs, to mean what Xu's β means: how much the decoder listens to the image.

    Deviations: Lu et al. look with h_t and c_t, behind the LSTM, which reads the mean annotation
    beside the word. Here the sentinel takes the place of β in the decoder of Xu et al., which looks
    before the LSTM; so the two differ in nothing else. P makes s_t as long as an annotation.
    """

    hidden_alone = False
    linear = False  # the sentinel is no annotation

    def __init__(
        self,
        annotation: int,
        hidden: int,
        attention: int,
        nonlinearity: str,
        embedding: int,
    ):
        super().__init__(annotation, hidden, attention, nonlinearity)
        self.gate = StepLinear(embedding + hidden, hidden)  # W_x, W_g, b_g
        self.sentinel_key = StepLinear(hidden, attention, bias=False)  # W_s
        self.sentinel_value = StepLinear(hidden, annotation, bias=False)  # P

    def forward(self, state: State, embedded: Tensor, memory: Memory) -> Look:
        """As `SoftAttention.forward`."""
        gate = torch.sigmoid(self.gate(torch.cat([embedded, state.hidden], dim=-1)))
        sentinel = gate * torch.tanh(state.cell)  # (N, K, H)
        query = self.query(state.hidden)
        image = self.scores(query, memory.keys[:, None])  # (N, K, L)
        key = self.ready(self.sentinel_key(sentinel))
        itself = self.scores(query, key[:, :, None])  # (N, K, 1)
        beta = torch.sigmoid(image.logsumexp(-1, keepdim=True) - itself)
        alpha = image.softmax(-1)
        seen = beta * self.read(alpha, memory.annotations)
        return Look(seen + (1 - beta) * self.sentinel_value(sentinel), alpha, beta)
