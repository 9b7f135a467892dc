"""The kinds of attention by name."""

from __future__ import annotations

from torch import nn

from captioner.models.adaptive import AdaptiveAttention
from captioner.models.attention import NoAttention, SoftAttention
from captioner.models.hard import HardAttention
from captioner.models.heads import DotAttention, MultiHeadAttention


def build_attention(
    kind: str,
    annotation: int,
    hidden: int,
    attention: int,
    embedding: int,
    nonlinearity: str,
    heads: int,
    estimator: str,
    expectation: float,
    temperature: float,
) -> nn.Module:
    """Attention of sizes D, H, A and E; of the other options each kind takes its own.

    Raises ValueError for a number of heads that does not divide A and D.
    """
    if kind == "none":
        return NoAttention()
    if kind == "dot":
        return DotAttention(annotation, hidden, attention, heads)
    sizes = (annotation, hidden, attention, nonlinearity)
    if kind == "multihead":
        return MultiHeadAttention(*sizes, heads)
    if kind == "hard":
        return HardAttention(*sizes, estimator, expectation, temperature)
    if kind == "adaptive":
        return AdaptiveAttention(*sizes, embedding)
    return SoftAttention(*sizes)
