"""Hard attention: the decoder reads one location at a time (Xu et al. 2015, section 4.1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Categorical
from torch.nn import functional as F

from captioner.models.attention import Draw, Look, SoftAttention
from captioner.models.lstm import State


class HardMemory(NamedTuple):
    annotations: Tensor  # (N, L, D)
    keys: Tensor  # (N, L, A)
    expected: Tensor  # (N, 1, 1)  true for images that are read by expectation, s_t = α_t


class HardAttention(SoftAttention):
    r"""Stochastic attention, equations (8) and (9), with α_t as in `SoftAttention`:

        s_t ~ Multinoulli(α_t),   ẑ_t = Σ_i s_ti a_i

    While training, s_t is drawn, and `estimator` says how α_t learns from that:

    - `reinforce`: not through ẑ_t but through `Look.draw`, by the learning rule of section 4.1 (see
      `losses.reinforce`). Each image is read by its expectation, s_t = α_t, with probability
      `expectation`, 0.5 in the paper; it then learns as soft attention does.
    - `gumbel`: s_t = softmax((e_t + g) / temperature) with Gumbel noise g, a relaxed draw with a
      gradient (Jang et al. 2017, Maddison et al. 2017). Near one location at a low temperature.
    - `straight_through`: the location where that s_t is largest, which is exactly a draw from
      Multinoulli(α_t); the gradient is that of the relaxed draw (Jang et al. 2017, section 2.2).

    Otherwise the likeliest location is read, so captions are the same each time. The paper does not
    say what it reads then; the authors' code reads the expectation unless told to draw.
    """

    def __init__(
        self,
        annotation: int,
        hidden: int,
        attention: int,
        nonlinearity: str = "tanh",
        estimator: str = "reinforce",
        expectation: float = 0.5,
        temperature: float = 1.0,
    ):
        super().__init__(annotation, hidden, attention, nonlinearity)
        self.estimator, self.expectation, self.temperature = estimator, expectation, temperature

    def remember(self, annotations: Tensor) -> HardMemory:
        """As `SoftAttention.remember`; which images are read by expectation is drawn here."""
        expected = annotations.new_zeros(annotations.shape[0], 1, 1, dtype=torch.bool)
        if self.training and self.estimator == "reinforce":
            expected = torch.rand(expected.shape, device=annotations.device) < self.expectation
        return HardMemory(*super().remember(annotations), expected)

    def forward(self, state: State, embedded: Tensor, memory: HardMemory) -> Look:
        """As `SoftAttention.forward`."""
        scores, draw = self.scores(self.query(state.hidden), memory.keys[:, None]), None
        alpha = scores.softmax(-1)
        if not self.training:
            location = one_hot(alpha)
        elif self.estimator == "reinforce":
            location, draw = sample(scores, memory.expected)
        else:
            location = F.gumbel_softmax(scores, self.temperature)
            if self.estimator == "straight_through":
                location = one_hot(location) + (location - location.detach())
        return Look(self.read(location, memory.annotations), alpha, draw=draw)


def sample(scores: Tensor, expected: Tensor) -> tuple[Tensor, Draw]:
    """s_t, (N, K, L), drawn with log-probabilities `scores` + const, or α_t where `expected`."""
    multinoulli = Categorical(logits=scores, validate_args=False)  # which would wait for the device
    drawn = multinoulli.sample()
    location = F.one_hot(drawn, scores.shape[-1]).to(scores.dtype)
    log_prob = multinoulli.log_prob(drawn).masked_fill(expected[..., 0], 0.0)
    return (
        torch.where(expected, multinoulli.probs, location),
        Draw(log_prob, multinoulli.entropy()),
    )


def one_hot(weights: Tensor) -> Tensor:
    """1 where the weights (…, L) are largest, 0 elsewhere."""
    return F.one_hot(weights.argmax(-1), weights.shape[-1]).to(weights.dtype)
