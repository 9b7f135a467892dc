"""What T_z and L_z read ahead gives what they read word by word, and is less where it is done."""

from __future__ import annotations

import pytest
import torch
from helpers import assert_same
from test_loops import gradients, ragged
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from captioner.models.decoder import Decoder
from captioner.search import search
from captioner.vocabulary import START

L, D, H, E, V = 9, 6, 8, 7, 13  # as in conftest.SIZES
AHEAD = {
    "paper": {},
    "no-beta": {"beta": "none"},
    "relu": {"attention_nonlinearity": "relu"},
    "hard": {"attention_kind": "hard"},
    "shallow-output": {"deep_output": False},
    "projected": {"projection": 4, "tied_output": True},
    "peephole": {"cell": "peephole"},
    "coupled": {"cell": "coupled"},
    "gru": {"cell": "gru"},
}
NEVER = {
    "vector-beta": {"beta": "vector"},
    "multihead": {"attention_kind": "multihead"},
    "dot": {"attention_kind": "dot"},
    "adaptive": {"attention_kind": "adaptive"},
    "no-attention": {"attention_kind": "none"},
    "of-one-size": {"projection": 4 * H + E},  # what is read is as long as ẑ_t
}


def word_by_word(decoder: Decoder) -> Decoder:
    decoder.read_ahead = lambda memory, words: memory
    return decoder


@pytest.mark.parametrize("name", AHEAD)
def test_steps_are_the_same(make_decoder, name: str):
    decoder = make_decoder(**AHEAD[name]).double()
    memory = decoder.remember(torch.randn(2, L, D).double())
    state = ahead_state = decoder.start(memory, captions=3)
    ahead = decoder.read_ahead(memory, words=L)
    readers = 4 * H if name == "shallow-output" else 4 * H + E
    readers -= H if name in ("coupled", "gru") else 0
    assert ahead.annotations.shape == (2, L, readers)
    for _ in range(4):
        words = torch.randint(0, V, (2, 3))
        expected, got = (
            decoder.step(words, *each) for each in ((state, memory), (ahead_state, ahead))
        )
        state, ahead_state = expected.state, got.state
        torch.testing.assert_close(got.logits, expected.logits, rtol=0, atol=1e-12)
        for one, other in zip(got.trace, expected.trace, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NEVER)
def test_where_it_would_not_be_the_same_nothing_is_read_ahead(make_decoder, name: str):
    decoder = make_decoder(**NEVER[name])
    memory = decoder.remember(torch.randn(2, L, D))
    assert decoder.read_ahead(memory, words=1000) is memory


def test_an_attention_that_says_nothing_of_itself_is_not_read_ahead(make_decoder):
    class Own(torch.nn.Module):
        def remember(self, annotations: Tensor) -> Tensor:
            return annotations

    decoder = make_decoder()
    memory = decoder.remember(torch.randn(2, L, D))
    decoder.attention = Own()
    assert decoder.read_ahead(memory, words=1000) is memory


def test_for_fewer_words_than_locations_nothing_is_read_ahead(make_decoder):
    decoder = make_decoder()
    memory = decoder.remember(torch.randn(2, L, D))
    assert decoder.read_ahead(memory, words=L - 1) is memory
    assert decoder.read_ahead(memory, words=L) is not memory


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", AHEAD)
def test_it_learns_the_same(make_decoder, name: str, training: bool):
    decoder, mask = make_decoder(**AHEAD[name]).double().train(training), ragged(2, 5)
    torch.manual_seed(1)  # for the same draws, where locations are drawn
    ours = gradients(decoder, mask, seed=0)
    torch.manual_seed(1)
    theirs = gradients(word_by_word(decoder), mask, seed=0)
    assert [one is None for one in ours] == [other is None for other in theirs]
    for one, other in zip(ours, theirs, strict=True):
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("options", [{"strategy": "sample", "seed": 3}, {"width": 4}, {"width": 1}])
def test_searches_write_the_same(make_decoder, options: dict):
    decoder, annotations = make_decoder(scale=3.0), torch.randn(3, L, D)
    found = search(decoder, annotations, max_length=8, trace=True, **options)
    expected = search(word_by_word(decoder), annotations, max_length=8, trace=True, **options)
    assert_same(found, expected)


def test_it_takes_the_place_of_a_product_for_each_word(make_decoder):
    def flops(decoder: Decoder) -> int:
        tokens = torch.full((2, 3, 5), START)
        with FlopCounterMode(display=False) as counter:
            decoder(tokens, torch.ones_like(tokens, dtype=torch.bool), torch.randn(2, L, D))
        return counter.get_total_flops()

    read, words = 4 * H + E, 2 * 3 * 5
    more = 2 * L * D * read + words * L * read  # each location is read, and looked at as it is
    less = words * D * read + words * L * D
    assert flops(make_decoder()) - flops(word_by_word(make_decoder())) == 2 * (more - less)
