from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import reference
import torch
import yaml
from helpers import KINDS, paper_weights
from torch import Tensor

from captioner.losses import caption_loss, reinforce
from captioner.models.decoder import Decoder, Unrolled
from captioner.models.lstm import State
from captioner.models.ragged import in_order
from captioner.vocabulary import PAD, START

L, D, H, E, V = 9, 6, 8, 7, 13  # as in conftest.SIZES
PRESETS = Path(__file__).parents[1] / "conf" / "decoder"
TINY = {"hidden": H, "embedding": E, "attention": 5}


def preset(name: str) -> dict[str, int | str | bool]:
    """The structure of a preset in conf/, at tiny sizes."""
    options = yaml.safe_load((PRESETS / f"{name}.yaml").read_text(encoding="utf-8"))["decoder"]
    return {**options, **TINY, "projection": 4 if options["projection"] else 0}


STRUCTURES = {
    **{path.stem: preset(path.stem) for path in sorted(PRESETS.glob("*.yaml"))},
    "vector-beta": {"beta": "vector"},
    "no-beta": {"beta": "none"},
    "relu": {"attention_nonlinearity": "relu"},
    "authors-code": {"shared_init": True, "output_tanh": True},
    "shallow-output": {"deep_output": False},
    "tied": {"tied_output": True},
    "projected": {"projection": 4, "beta": "vector", "shared_init": True},
    **KINDS,
    "all-deviations": {
        "projection": 4,
        "beta": "vector",
        "attention_nonlinearity": "relu",
        "shared_init": True,
        "deep_output": False,
        "output_tanh": True,
        "tied_output": True,
        "scaled_embedding": True,
        "forget_bias": 1.0,
    },
}


@pytest.mark.parametrize(
    ("precision", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)]
)
@pytest.mark.parametrize("name", STRUCTURES)
def test_steps_equal_the_equations(make_decoder, name: str, precision, tolerance: float):
    options = STRUCTURES[name]
    decoder = make_decoder(**options).to(precision)
    annotations = torch.randn(2, L, D).to(precision)
    words = torch.randint(0, V, (2, 3, 4))
    weights = paper_weights(decoder)
    names = {"attention_nonlinearity": "nonlinearity", "attention_kind": "kind", "cell": "unit"}
    names |= {"output_tanh": "output_tanh", "heads": "heads", "scaled_embedding": "scaled"}
    bends = {names[key]: value for key, value in options.items() if key in names}
    memory = decoder.remember(annotations)
    ours, state = [], decoder.start(memory, captions=3)
    with torch.no_grad():
        for t in range(4):
            logits, state, trace = decoder.step(words[..., t], state, memory)
            ours.append([logits, *trace])
    for n, k in np.ndindex(2, 3):
        seen = reference.project(weights, annotations[n].double().numpy())
        hidden, cell = reference.start(weights, seen)
        for t in range(4):
            word = int(words[n, k, t])
            expected = reference.step(weights, seen, word, hidden, cell, **bends)
            hidden, cell = expected.hidden, expected.cell
            for got, value in zip(ours[t], expected, strict=True):
                np.testing.assert_allclose(got[n, k], value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["paper", "vector-beta", "hard", "multihead", "dot", "gru"])
def test_attention_and_beta_see_the_hidden_state_before_and_nothing_else(make_decoder, name: str):
    decoder = make_decoder(**STRUCTURES[name])
    memory = decoder.remember(torch.randn(2, L, D))
    start = decoder.start(memory, captions=3)
    state = decoder.step(torch.full((2, 3), START), start, memory).state
    one, other = (decoder.step(torch.full((2, 3), word), state, memory).trace for word in (4, 5))
    assert not torch.allclose(one.hidden, other.hidden)
    torch.testing.assert_close(one.alpha, other.alpha)
    torch.testing.assert_close(one.beta, other.beta)
    nothing = torch.zeros(2, 3, E)
    torch.testing.assert_close(one.alpha, decoder.attention(state, nothing, memory).alpha)
    torch.testing.assert_close(one.beta, decoder.beta(state.hidden))
    no_belt = State(state.hidden, torch.zeros_like(state.cell))
    trace = decoder.step(torch.full((2, 3), 4), no_belt, memory).trace
    torch.testing.assert_close(trace.alpha, one.alpha)
    torch.testing.assert_close(trace.beta, one.beta)


@pytest.mark.parametrize("name", STRUCTURES)
def test_traces_stay_within_their_bounds(make_decoder, name: str):
    decoder = make_decoder(**STRUCTURES[name], scale=3.0)
    memory = decoder.remember(torch.randn(4, L, D))
    state = decoder.start(memory, captions=5)
    for _ in range(6):
        before = state
        _, state, trace = decoder.step(torch.randint(0, V, (4, 5)), state, memory)
        for values in (trace.alpha, trace.beta, trace.input, trace.forget, trace.output):
            assert values.min() >= 0 and values.max() <= 1
        torch.testing.assert_close(trace.alpha.sum(-1), torch.ones(4, 5), rtol=0, atol=1e-6)
        assert trace.candidate.abs().max() <= 1
        belt = trace.forget * before.cell + trace.input * trace.candidate
        assert torch.equal(trace.cell, belt) and torch.equal(state.cell, trace.cell)
        shown = belt if decoder.cell.rows == "frg" else trace.output * belt.tanh()
        assert torch.equal(trace.hidden, shown)


def test_without_beta_the_context_is_let_through_whole(make_decoder):
    decoder = make_decoder(beta="none")
    memory = decoder.remember(torch.randn(2, L, D))
    state = decoder.start(memory)
    trace = decoder.step(torch.full((2, 1), START), state, memory).trace
    assert trace.beta.shape == (2, 1, 1) and (trace.beta == 1).all()


class Ragged(NamedTuple):
    """Captions of 2 images: lengths 5, 4, 2 and 3, 1 (and an empty row)."""

    tokens: Tensor
    targets: Tensor
    mask: Tensor
    annotations: Tensor


@pytest.fixture
def ragged() -> Ragged:
    lengths = torch.tensor([[5, 4, 2], [3, 1, 0]])
    mask = torch.arange(5) < lengths[..., None]
    targets = torch.where(mask, torch.randint(2, V, (2, 3, 5)), PAD)
    start = torch.full((2, 3, 1), START)
    tokens = torch.cat([start, targets[..., :-1]], dim=-1)
    return Ragged(tokens, targets, mask, torch.randn(2, L, D))


def spread(unrolled: Unrolled, mask: Tensor) -> Tensor:
    """The logits where their words stand, (N, K, T, V); zero on padding."""
    dense = torch.zeros(*mask.shape, unrolled.logits.shape[-1], dtype=unrolled.logits.dtype)
    order = [
        (n, k, t) for t in range(mask.shape[2]) for n, k in np.ndindex(*mask.shape[:2])
        if mask[n, k, t]
    ]  # fmt: skip
    for row, at in enumerate(order):
        dense[at] = unrolled.logits[row]
    return dense


def test_in_order_goes_step_by_step_through_images_and_their_captions():
    mask = torch.tensor([[[True, True], [True, False]], [[True, True], [False, False]]])
    values = torch.arange(8).view(2, 2, 2)
    assert in_order(values, mask).tolist() == [0, 2, 4, 1, 5]


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_unrolled_pass_equals_repeated_steps(make_decoder, ragged: Ragged, name: str):
    decoder = make_decoder(**STRUCTURES[name]).double()
    tokens, _, mask, annotations = ragged
    unrolled = decoder(tokens, mask, annotations.double())
    logits = spread(unrolled, mask)
    memory = decoder.remember(annotations.double())
    state, attended = decoder.start(memory, captions=3), 0
    for t in range(5):
        step = decoder.step(tokens[..., t], state, memory)
        state, real = step.state, mask[..., t, None]
        attended = attended + step.trace.alpha * real
        torch.testing.assert_close(logits[:, :, t], step.logits * real, rtol=0, atol=1e-10)
    torch.testing.assert_close(unrolled.attended, attended, rtol=0, atol=1e-10)


def gradients(decoder: Decoder, ragged: Ragged) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and its gradient by every weight and by the annotations."""
    decoder.zero_grad()
    torch.manual_seed(1)  # for the same draws, where locations are drawn
    annotations, mask = ragged.annotations.double().requires_grad_(), ragged.mask
    logits, attended, draw, _ = decoder(ragged.tokens, mask, annotations)
    targets = in_order(ragged.targets, mask)
    loss = sum(caption_loss(logits, targets, attended, mask[..., 0], 0.1))
    if draw is not None:
        loss = loss + reinforce(logits, targets, draw.log_prob, mask, -1.0) - draw.entropy.sum()
    loss.backward()
    found = {name: parameter.grad.clone() for name, parameter in decoder.named_parameters()}
    return loss.detach(), {**found, "annotations": annotations.grad}


def more_steps(ragged: Ragged) -> Ragged:
    tokens, targets, mask = (
        torch.cat([part, part.new_zeros(2, 3, 4)], dim=2) for part in ragged[:3]
    )
    return Ragged(tokens, targets, mask, ragged.annotations)


def more_rows(ragged: Ragged) -> Ragged:
    tokens, targets, mask = (
        torch.cat([part, part.new_zeros(2, 2, 5)], dim=1) for part in ragged[:3]
    )
    return Ragged(tokens, targets, mask, ragged.annotations)


def garbage(ragged: Ragged) -> Ragged:
    """Other ids under the mask, in words and targets."""
    random = torch.randint(0, V, (2, 2, 3, 5))
    tokens = torch.where(ragged.mask, ragged.tokens, random[0])
    targets = torch.where(ragged.mask, ragged.targets, random[1])
    return Ragged(tokens, targets, ragged.mask, ragged.annotations)


DRAWN = {
    estimator: {"attention_kind": "hard", "estimator": estimator}
    for estimator in ("reinforce", "gumbel", "straight_through")
}


@pytest.mark.parametrize("pad", [more_steps, more_rows, garbage])
@pytest.mark.parametrize(
    "name", ["paper", "modern", "vector-beta", "shallow-output", *KINDS, *DRAWN]
)
def test_padding_changes_neither_loss_nor_gradients(make_decoder, ragged: Ragged, pad, name: str):
    decoder = make_decoder(**{**STRUCTURES, **DRAWN}[name]).double().train(name in DRAWN)
    loss, expected = gradients(decoder, ragged)
    padded_loss, padded = gradients(decoder, pad(ragged))
    torch.testing.assert_close(padded_loss, loss, rtol=1e-6, atol=0)
    for parameter in expected:  # the loss itself is in single precision
        torch.testing.assert_close(padded[parameter], expected[parameter], rtol=1e-6, atol=1e-6)


def test_captions_of_one_image_equal_images_of_one_caption(make_decoder, ragged: Ragged):
    decoder = make_decoder(projection=4).double()
    tokens, _, mask, annotations = ragged
    together = decoder(tokens[:1], mask[:1], annotations[:1].double())
    logits = spread(together, mask[:1])
    for k in range(3):
        alone = decoder(tokens[:1, k : k + 1], mask[:1, k : k + 1], annotations[:1].double())
        spread_alone = spread(alone, mask[:1, k : k + 1])
        torch.testing.assert_close(logits[:, k : k + 1], spread_alone, rtol=0, atol=1e-10)
        torch.testing.assert_close(together.attended[:, k : k + 1], alone.attended)


def test_images_of_a_batch_do_not_touch_each_other(make_decoder, ragged: Ragged):
    decoder = make_decoder(projection=4)
    tokens, _, mask, annotations = ragged
    annotations.requires_grad_()
    unrolled = decoder(tokens, mask, annotations)
    second = spread(unrolled, mask)[1].square().sum() + unrolled.attended[1].square().sum()
    (gradient,) = torch.autograd.grad(second, annotations)
    assert (gradient[0] == 0).all() and gradient[1].abs().max() > 0


def test_dropout_is_off_when_evaluating_and_acts_when_training(make_decoder, ragged: Ragged):
    decoder = make_decoder(dropout=0.5, projection=4)
    inputs = (ragged.tokens, ragged.mask, ragged.annotations)
    assert torch.equal(decoder(*inputs).logits, decoder(*inputs).logits)
    decoder.train()
    assert not torch.allclose(decoder(*inputs).logits, decoder(*inputs).logits)


def test_a_step_reads_a_word_once_however_many_captions_go_on_from_it(make_decoder, monkeypatch):
    decoder, read = make_decoder(), []
    memory = decoder.remember(torch.randn(2, L, D))
    embed = decoder.cell.embed.forward
    monkeypatch.setattr(
        decoder.cell.embed, "forward", lambda words: read.append(len(words)) or embed(words)
    )
    token = torch.tensor([[5, 4, 5], [4, 5, 4]])
    together = decoder.step(token, decoder.start(memory, 3), memory).logits
    assert read == [2]
    alone = [
        decoder.step(column[:, None], decoder.start(memory), memory).logits for column in token.mT
    ]
    torch.testing.assert_close(together, torch.cat(alone, dim=1))


def test_a_tied_output_is_the_embedding_matrix(make_decoder):
    decoder = make_decoder(tied_output=True)
    assert decoder.output.words.weight is decoder.embedding.weight
    assert len(list(decoder.parameters())) == len({id(p) for p in decoder.parameters()})
    assert make_decoder().output.words.weight is not make_decoder().embedding.weight
