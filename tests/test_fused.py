"""One compiled pass over all pairs gives what a few images at a time give."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch
from tiny import build_tiny

from captioner.build import build_transform
from captioner.captioner import Captioner
from captioner.config import SearchOptions
from captioner.models import additive
from captioner.models.decoder import Decoder

CPU = torch.device("cpu")
compiler = pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")


def results(query: torch.Tensor, keys: torch.Tensor, v: torch.Tensor) -> list[torch.Tensor]:
    inputs = [each.clone().requires_grad_() for each in (query, keys, v)]
    scores = additive.tanh_scores(inputs[0], additive.growth(inputs[1]), inputs[2])
    return [scores, *torch.autograd.grad(scores.square().sum(), inputs)]


@compiler
def test_one_pass_gives_the_same_scores_and_gradients(monkeypatch: pytest.MonkeyPatch):
    # Images, captions, and keys of each image: its captions share them, or have their own.
    shapes = [(3, 5, 1), (3, 5, 5), (3, 1, 1), (40, 5, 1)]
    given = [
        (torch.randn(n, k, 32), torch.randn(n, own, 49, 32), torch.randn(32))
        for n, k, own in shapes
    ]
    before = [results(*each) for each in given]
    assert additive.fuse()
    monkeypatch.setattr(additive, "_few", lambda *_: pytest.fail("not in one pass"))
    for each, expected in zip(given, before, strict=True):
        for one, other in zip(results(*each), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
    with torch.inference_mode():
        query, keys, v = (each.clone() for each in given[0])
        found = additive.tanh_scores(query, additive.growth(keys), v)
    torch.testing.assert_close(found, before[0][0].detach(), rtol=1e-4, atol=1e-4)


@compiler
def test_double_precision_is_not_compiled():
    assert additive.fuse()
    query, keys, v = (torch.randn(*s, dtype=torch.float64) for s in ((2, 3, 8), (2, 1, 4, 8), (8,)))
    exact = torch.tanh(keys + query[:, :, None]) @ v
    found = additive.tanh_scores(query, additive.growth(keys), v)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("error", [RuntimeError("no compiler"), TypeError("recompile_limit")])
def test_what_cannot_be_compiled_stays_as_it_was(error: Exception, monkeypatch):
    def compile(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "compile", compile)
    before = results(*(inputs := (torch.randn(2, 3, 8), torch.randn(2, 1, 4, 8), torch.randn(8))))
    assert not additive.fuse()
    assert all(map(torch.equal, results(*inputs), before))


def test_it_is_done_for_many_pairs_on_a_cpu_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(additive, "fuse", lambda: True)
    assert additive.fuse_for(additive.WORTHWHILE + 1, CPU)
    assert not additive.fuse_for(additive.WORTHWHILE, CPU)
    assert not additive.fuse_for(1e15, torch.device("cuda"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how many pairs it was said to be."""
    found: list[float] = []
    monkeypatch.setattr(
        "captioner.models.attention.fuse_for", lambda pairs, _: found.append(pairs) or True
    )
    return found


def test_pairs_are_of_words_locations_and_the_size_of_attention(
    make_decoder: Callable[..., Decoder], asked: list[float]
):
    assert make_decoder().expect(10, 4)
    assert make_decoder(attention_kind="hard").expect(1, 4)
    assert asked == [200, 20]
    for options in (
        {"attention_kind": "dot"},
        {"attention_kind": "none"},
        {"attention_nonlinearity": "relu"},
    ):
        assert not make_decoder(**options).expect(10, 4)
    assert len(asked) == 2


@pytest.mark.parametrize(("strategy", "captions"), [("beam", 3), ("sample", 3), ("greedy", 1)])
def test_a_captioner_expects_ten_words_of_each_caption(
    strategy: str, captions: int, asked: list[float]
):
    tiny = build_tiny()
    transform = build_transform(tiny.options.encoder)
    options = SearchOptions(strategy, width=3)
    captioner = Captioner(tiny.model, tiny.vocabulary, transform, options)
    captioner.expect(100)
    assert asked == [100 * captions * 10 * captioner.grid.height * captioner.grid.width * 8]
