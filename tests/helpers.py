"""What several test files need."""

from __future__ import annotations

import itertools
import time
import timeit
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import pytest
import reference
import torch
from torch import Tensor

from captioner.models.decoder import Decoder, Trace
from captioner.search import Hypothesis
from captioner.vocabulary import END, START

KINDS = {
    "hard": {"attention_kind": "hard"},
    "multihead": {"attention_kind": "multihead", "heads": 2, "attention": 4},
    "dot": {"attention_kind": "dot", "heads": 3, "attention": 9, "projection": 12},
    "adaptive": {"attention_kind": "adaptive", "beta": "none"},
    "no-attention": {"attention_kind": "none"},
    "peephole": {"cell": "peephole"},
    "coupled": {"cell": "coupled"},
    "gru": {"cell": "gru", "shared_init": True},
    "adaptive-gru": {"attention_kind": "adaptive", "beta": "none", "cell": "gru"},
}
"""A tiny decoder's options with each kind of attention but soft, and each cell but the LSTM."""


def needs(package: str) -> pytest.MarkDecorator:
    """Skips where the package is missing, without importing it, as `importorskip` would.

    Each process that runs tests collects all of them, and such imports take seconds.
    """
    return pytest.mark.skipif(find_spec(package) is None, reason=f"needs {package}")


def paper_weights(decoder: Decoder) -> reference.Weights:
    """The decoder's weights under the names that they have in the paper."""
    has = {name: value.double().numpy() for name, value in decoder.state_dict().items()}
    names = {
        "E": "embedding.weight",
        "P": "projection.0.weight",
        "b_P": "projection.0.bias",
        "gain": "projection.1.weight",
        "shift": "projection.1.bias",
        "f_shared": "init.shared.weight",
        "b_shared": "init.shared.bias",
        "f_init_h": "init.hidden.weight",
        "b_init_h": "init.hidden.bias",
        "f_init_c": "init.cell.weight",
        "b_init_c": "init.cell.bias",
        "W_a": "attention.key.weight",
        "W_h": "attention.query.weight",
        "b_att": "attention.query.bias",
        "V": "attention.value.weight",
        "W_g": "attention.gate.weight",
        "b_g": "attention.gate.bias",
        "W_s": "attention.sentinel_key.weight",
        "P_s": "attention.sentinel_value.weight",
        "f_beta": "beta.gate.weight",
        "b_beta": "beta.gate.bias",
        "T_y": "cell.embed.weight",
        "T_h": "cell.recur.weight",
        "T_z": "cell.context.weight",
        "b": "cell.embed.bias",
        "L_h": "output.hidden.weight",
        "b_h": "output.hidden.bias",
        "L_z": "output.context.weight",
        "L_o": "output.words.weight",
        "b_o": "output.words.bias",
    }
    weights = {name: has.pop(ours) for name, ours in names.items() if ours in has}
    if "attention.score.weight" in has:
        v = has.pop("attention.score.weight")
        weights["v"] = v if len(v) > 1 else v[0]  # one for each head
    if "cell.peepholes" in has:
        weights |= dict(zip(("p_i", "p_f", "p_o"), has.pop("cell.peepholes"), strict=True))
    assert not has, f"the reference knows nothing of {list(has)}"
    return weights


def seconds(work: Callable[[], object]) -> float:
    """The shortest of three runs of `work`, in seconds of this thread's CPU time.

    A busy machine, another test's threads and its garbage, which `timeit` leaves uncollected,
    make a run longer and none shorter.
    """
    return min(timeit.repeat(work, timer=time.thread_time, number=1, repeat=3))


class Rescored(NamedTuple):
    """A caption read word by word, its words given."""

    log_probs: Tensor  # (T, V) of each next word
    trace: Trace  # each (T, ·)
    end: float  # log p of `<end>` behind the last word


@torch.no_grad()
def rescore(decoder: Decoder, annotation: Tensor, ids: list[int]) -> Rescored:
    memory = decoder.remember(annotation[None])
    state, log_probs, traces = decoder.start(memory), [], []
    for word in [START, *ids]:
        logits, state, trace = decoder.step(torch.tensor([[word]]), state, memory)
        log_probs.append(logits[0, 0].log_softmax(-1))
        traces.append([part[0, 0] for part in trace])
    trace = Trace(*(torch.stack(part)[: len(ids)] for part in zip(*traces, strict=True)))
    return Rescored(torch.stack(log_probs)[: len(ids)], trace, float(log_probs[-1][END]))


def assert_same(ours: list[list[Hypothesis]], theirs: list[list[Hypothesis]]) -> None:
    """The same captions with the same numbers, to 1e-5."""
    assert [[h.ids for h in row] for row in ours] == [[h.ids for h in row] for row in theirs]
    for a, b in zip(itertools.chain(*ours), itertools.chain(*theirs), strict=True):
        assert (a.log_prob, a.score) == pytest.approx((b.log_prob, b.score), abs=1e-5)
        assert a.ended == b.ended
        torch.testing.assert_close(a.word_log_probs, b.word_log_probs, rtol=0, atol=1e-5)
        for one, other in zip(a.trace, b.trace, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def with_biases(decoder: Decoder, biases: dict[int, float]) -> Decoder:
    """Makes words (un)likely at every step; the decoder's output must be tied."""
    with torch.no_grad():
        for word, bias in biases.items():
            decoder.output.words.bias[word] = bias
    return decoder


def sentences(seed: int, n: int) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Captions of 0 to 9 words out of six, and 1 to 5 references: all sorts of partial matches."""
    generator = np.random.default_rng(seed)

    def sentence(shortest: int) -> list[str]:
        return list(generator.choice(list("abcdef"), generator.integers(shortest, 10)))

    hypotheses = [sentence(0) for _ in range(n)]
    references = [[sentence(1) for _ in range(generator.integers(1, 6))] for _ in range(n)]
    return hypotheses, references


def as_coco(
    hypotheses: list[list[str]], references: list[list[list[str]]]
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """References and hypotheses as pycocoevalcap's scorers take them."""
    join = " ".join
    return (
        {i: [join(words) for words in several] for i, several in enumerate(references)},
        {i: [join(words)] for i, words in enumerate(hypotheses)},
    )
