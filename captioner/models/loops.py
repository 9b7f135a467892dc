"""Which loop over words is the fastest where a decoder learns."""

from __future__ import annotations

import torch

from captioner.models.by_hand import LoopByHand, is_the_papers
from captioner.models.decoder import Decoder
from captioner.models.graphs import GraphedLoop
from captioner.models.hard import HardAttention


def take_faster_loop(decoder: Decoder, device: torch.device) -> None:
    """Lets a decoder that is to learn replay its loop from graphs on a GPU, or go by hand on a CPU.

    By hand where it is the paper's. From graphs not where attention draws its locations: what it
    draws would depend on when a graph was made, and a resumed run would draw others.
    """
    if device.type == "cuda" and not isinstance(decoder.attention, HardAttention):
        decoder.loop = GraphedLoop(decoder)
    if device.type == "cpu" and is_the_papers(decoder):
        decoder.loop = LoopByHand(decoder)
