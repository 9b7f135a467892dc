from __future__ import annotations

import copy

import pytest
import torch
from helpers import KINDS

from captioner.losses import caption_loss
from captioner.models.by_hand import LoopByHand
from captioner.models.decoder import Decoder, Loop
from captioner.models.graphs import GraphedLoop
from captioner.models.loops import take_faster_loop
from captioner.models.lstm import LSTMCell, State
from captioner.models.ragged import in_order
from captioner.vocabulary import PAD, START

L, D, V = 9, 6, 13  # as in conftest.SIZES
ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def gradients(decoder: Decoder, mask: torch.Tensor, seed: int) -> list[torch.Tensor]:
    """Of all weights and of the annotations, for captions drawn from a seed."""
    draw = torch.Generator().manual_seed(seed)
    targets = torch.where(mask, torch.randint(2, V, mask.shape, generator=draw), PAD)
    tokens = torch.cat([torch.full_like(targets[..., :1], START), targets[..., :-1]], dim=-1)
    device = decoder.embedding.weight.device
    annotations = torch.randn(len(mask), L, D, generator=draw).to(decoder.embedding.weight)
    annotations.requires_grad_()
    mask, targets = mask.to(device), targets.to(device)
    unrolled = decoder(tokens.to(device), mask, annotations)
    loss = caption_loss(unrolled.logits, in_order(targets, mask), unrolled.attended, mask[..., 0])
    weights = [annotations, *decoder.parameters()]
    total = loss.cross_entropy + loss.penalty
    return [total.detach(), *torch.autograd.grad(total, weights, allow_unused=True)]


def ragged(images: int, longest: int) -> torch.Tensor:
    lengths = torch.randint(1, longest + 1, (images, 3)).sort(dim=1, descending=True).values
    lengths[0, 0] = longest
    return torch.arange(longest) < lengths[..., None]


def check(decoder: Decoder, loop: Loop, **tolerance: float) -> None:
    """That gradients with the loop are those with `Decoder.recur`."""
    taken = []
    for images, longest, seed in ((2, 5, 0), (3, 7, 1), (2, 5, 2), (3, 7, 3), (9, 9, 4), (2, 3, 5)):
        mask = ragged(images, longest)
        decoder.loop = None
        expected = gradients(decoder, mask, seed)
        decoder.loop = lambda *given: taken.append(given) or loop(*given)
        got = gradients(decoder, mask, seed)
        assert [one is None for one in got] == [other is None for other in expected]
        for one, other in zip(got, expected, strict=True):
            if one is not None:
                torch.testing.assert_close(one, other, **tolerance)
        with torch.no_grad():  # changed in place, as the optimiser does
            for weight in decoder.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
    assert len(taken) == 6


def check_graphs(decoder: Decoder, capture=None, **tolerance: float) -> None:
    loop = GraphedLoop(decoder, capture)
    check(decoder, loop, **tolerance)
    assert len(loop.found) == 3  # three of the shapes became one


SOFT = {name: options for name, options in KINDS.items() if name != "hard"}
SOFT["modern"] = {"projection": 4, "tied_output": True, "scaled_embedding": True}


@pytest.mark.parametrize("name", SOFT)
def test_all_captions_at_every_step_learn_the_same(make_decoder, name: str):
    def uncaptured(function, inputs, weights):
        return lambda inputs: function(inputs, weights)

    check_graphs(make_decoder(**SOFT[name]).double(), uncaptured, rtol=1e-10, atol=1e-12)


PAPERS = {
    "paper": {},
    "modern": SOFT["modern"],
    "shallow": {"deep_output": False},
    "authors": {"shared_init": True, "output_tanh": True},
}


@pytest.mark.parametrize("name", PAPERS)
def test_gradients_by_hand_are_those_of_autograd(make_decoder, name: str):
    decoder = make_decoder(**PAPERS[name]).double()
    check(decoder, LoopByHand(decoder), rtol=1e-10, atol=1e-12)


def test_gradients_by_hand_are_those_of_autograd_in_half_precision(make_decoder):
    decoder = make_decoder()
    with torch.autocast("cpu", torch.bfloat16):
        check(decoder, LoopByHand(decoder), rtol=5e-2, atol=5e-2)


def test_annotations_that_learn_nothing_are_left_alone(make_decoder):
    decoder, mask = make_decoder(), ragged(2, 3)
    decoder.loop = LoopByHand(decoder)
    decoder(mask.long() * START, mask, torch.randn(2, L, D)).logits.sum().backward()
    assert all(weight.grad is not None for weight in decoder.parameters())


@pytest.mark.parametrize("kind", [GraphedLoop, LoopByHand])
def test_a_copied_decoder_has_no_loop_of_another_s_weights(make_decoder, kind: type):
    decoder = make_decoder()
    decoder.loop = kind(decoder)
    assert copy.deepcopy(decoder).loop is None


@pytest.mark.parametrize(
    ("device", "options", "kind"),
    [
        ("cuda", {}, GraphedLoop),
        ("cuda", KINDS["gru"], GraphedLoop),
        ("cuda", KINDS["hard"], type(None)),
        ("cpu", {}, LoopByHand),
        ("cpu", {"attention_nonlinearity": "relu"}, type(None)),
        ("cpu", {"beta": "vector"}, type(None)),
        ("cpu", {"beta": "none"}, type(None)),
        *(("cpu", options, type(None)) for options in KINDS.values()),
    ],
)
def test_each_device_has_a_loop_of_its_own_where_that_is_the_same(
    make_decoder, device: str, options: dict, kind: type
):
    decoder = make_decoder(**options)
    take_faster_loop(decoder, torch.device(device))
    assert type(decoder.loop) is kind


def test_changed_equations_are_not_gone_through_by_hand(make_decoder, monkeypatch):
    forward = LSTMCell.forward

    def leaky(cell: LSTMCell, embedded: torch.Tensor, context: torch.Tensor, state: State):
        state, gates = forward(cell, embedded, context, state)
        return State(state.hidden, 0.9 * state.cell), gates

    monkeypatch.setattr(LSTMCell, "forward", leaky)
    decoder = make_decoder()
    take_faster_loop(decoder, torch.device("cpu"))
    assert decoder.loop is None


@ON_GPU
@pytest.mark.parametrize("name", SOFT)
def test_a_graph_learns_the_same(make_decoder, name: str):
    check_graphs(make_decoder(**SOFT[name]).cuda(), rtol=1e-3, atol=1e-5)


@ON_GPU
def test_a_graph_learns_the_same_in_half_precision(make_decoder):
    decoder = make_decoder().cuda()
    with torch.autocast("cuda", torch.bfloat16):
        check_graphs(decoder, rtol=5e-2, atol=5e-2)
