"""What may be written next, and what has been: the search's rules."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from captioner.vocabulary import END, PAD, UNWRITTEN

NEVER = float("-inf")
WORDS = 10  # that a caption has, more or less


@dataclass
class Rules:
    """What may not be written next."""

    max_length: int
    min_length: int
    block_ngrams: int

    def __call__(self, log_probs: Tensor, words: Tensor) -> Tensor:
        """Sets the log-probability of forbidden words to −∞. words: (N, K, t), `<start>` first."""
        end = log_probs[..., END].clone()
        log_probs[..., UNWRITTEN] = NEVER
        log_probs[..., END].masked_fill_(count_words(words) < self.min_length, NEVER)
        n = self.block_ngrams
        if n:
            words = F.pad(words[..., 1:], (n, 0), value=PAD)  # so there always is an n-gram
            grams = words.unfold(-1, n, 1)  # (N, K, t, n)
            prefix = words[..., words.shape[-1] - n + 1 :]
            repeats = (grams[..., :-1] == prefix[..., None, :]).all(-1)
            banned = torch.where(repeats, grams[..., -1], PAD)
            log_probs.scatter_(-1, banned, NEVER)
        nothing_left = log_probs.amax(-1).isneginf()
        log_probs[..., END] = torch.where(nothing_left, end, log_probs[..., END])
        return log_probs


def count_words(words: Tensor) -> Tensor:
    """(N, K, t) → (N, K): words of each caption, `<end>` counted.

    `<start>` is taken away behind the sum: an empty sum is more than onnxruntime 1.31 can do.
    """
    return (words != PAD).sum(-1) - 1


def has_ended(words: Tensor) -> Tensor:
    """(N, K, t) → (N, K): captions that hold `<end>`, which only `<pad>` can follow."""
    return (words[..., -1] == END) | (words[..., -1] == PAD)


def only_padding_(log_probs: Tensor, where: Tensor) -> None:
    """Makes `<pad>` certain where `where`, (N, K), is true. log_probs: (N, K, V)."""
    log_probs += torch.where(where, NEVER, 0.0)[..., None]  # faster than to fill them
    log_probs[..., PAD].masked_fill_(where, 0.0)
