"""Own words in place of a caption's: none by default, all where told so, and more with time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bench import UPDATES, Bench
from helpers import KINDS
from torch import Tensor
from torch.distributions import Categorical

from captioner.models.decoder import Decoder
from captioner.models.ragged import in_order

N, K, T, V = 3, 4, 6, 13
DECODERS = {"soft": {}, **{name: KINDS[name] for name in ("multihead", "adaptive", "gru")}}


@pytest.fixture
def captions() -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, mask, and annotations; the longest captions first."""
    lengths = torch.tensor([[6, 5, 2, 1], [6, 6, 3, 0], [4, 1, 1, 1]])
    tokens = torch.randint(4, V, (N, K, T))
    tokens[..., 0] = 1
    return tokens, torch.arange(T) < lengths[..., None], torch.randn(N, 9, 6)


def at_rest(decoder: Decoder, feedback: float) -> Decoder:
    decoder.feedback = feedback
    return decoder.eval()


def read(decoder: Decoder, captions: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Logits, and the words that were embedded: first all, then each step's in their place."""
    seen: list[Tensor] = []
    hook = decoder.embedding.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    logits = decoder(*captions).logits
    hook.remove()
    return logits, seen


def test_without_it_training_is_teacher_forcing_and_draws_nothing(make_decoder, captions):
    decoder = make_decoder()
    expected = decoder(*captions)
    before = torch.get_rng_state()
    assert torch.equal(decoder.train()(*captions).logits, expected.logits)
    assert torch.equal(at_rest(decoder, 0.9)(*captions).logits, expected.logits)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", DECODERS)
def test_with_certainty_it_goes_on_from_its_own_words(make_decoder, captions, name, monkeypatch):
    monkeypatch.setattr(Categorical, "sample", lambda self: self.logits.argmax(-1))
    decoder = make_decoder(**DECODERS[name]).train()
    decoder.feedback = 1.0
    tokens, mask, annotations = captions
    unrolled = decoder(*captions)
    memory = decoder.remember(annotations)
    word, state, logits = tokens[..., 0], decoder.start(memory, K), []
    for _ in range(T):
        step = decoder.step(word, state, memory)
        logits.append(step.logits)
        word, state = step.logits.argmax(-1), step.state
    expected = in_order(torch.stack(logits, 2), mask)
    torch.testing.assert_close(unrolled.logits, expected, rtol=0, atol=1e-5)
    assert not torch.allclose(at_rest(decoder, 0.0)(*captions).logits, expected, atol=0.1)


def test_words_are_replaced_as_often_as_told(make_decoder, monkeypatch):
    monkeypatch.setattr(Categorical, "sample", lambda self: torch.full(self._batch_shape, 12))
    decoder = make_decoder().train()
    decoder.feedback = 0.3
    tokens, mask = torch.full((40, 5, 9), 5), torch.ones(40, 5, 9, dtype=torch.bool)
    _, seen = read(decoder, (tokens, mask, torch.randn(40, 9, 6)))
    own = torch.stack(seen[1:]) == 12
    assert len(own) == 8 and 0.26 < own.float().mean() < 0.34


def test_its_words_are_drawn_from_the_scores_of_the_step_before(make_decoder):
    decoder, many = make_decoder(scale=0.4).train(), 6000
    decoder.feedback = 1.0
    tokens, mask = torch.full((1, many, 2), 1), torch.ones(1, many, 2, dtype=torch.bool)
    logits, seen = read(decoder, (tokens, mask, torch.randn(1, 9, 6)))
    often = seen[1].flatten().bincount(minlength=V) / many
    chances = logits[0].softmax(-1)
    assert ((often - chances).abs() <= 4 * (chances * (1 - chances) / many).sqrt() + 1e-9).all()


def test_the_share_of_own_words_rises_with_the_updates_and_it_learns(tmp_path: Path):
    bench, seen = Bench(tmp_path, epochs=6, learning_rate=1e-2, scheduled_sampling=0.5), []
    update = bench.trainer._update

    def watch(pieces: list) -> dict:
        line = update(pieces)
        seen.append(bench.model.decoder.feedback)
        return line

    bench.trainer._update = watch
    lines = bench.fit().lines()
    total = 6 * UPDATES
    assert seen == pytest.approx([0.5 * done / total for done in range(total)])
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]
