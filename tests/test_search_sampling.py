from __future__ import annotations

import itertools

import pytest
import torch
from helpers import assert_same, rescore
from torch import Tensor

from captioner.search import search, truncate
from captioner.vocabulary import END, PAD, START, UNKNOWN

N, L, D, V = 4, 9, 6, 13


@pytest.fixture
def annotations() -> Tensor:
    return torch.randn(N, L, D)


def test_samples_depend_on_their_seed_alone(make_decoder, annotations: Tensor):
    decoder = make_decoder()

    def sample(seed: int) -> list[list[int]]:
        found = search(decoder, annotations, "sample", width=8, max_length=8, seed=seed)
        return [h.ids for h in itertools.chain(*found)]

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = sample(3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert sample(3) == first
    assert sample(4) != first


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"temperature": 1e-6}, {"top_p": 1e-6}])
@pytest.mark.parametrize("seed", range(3))
def test_narrow_sampling_is_greedy_search(make_decoder, annotations, narrow: dict, seed: int):
    decoder = make_decoder(seed)
    sampled = search(decoder, annotations, "sample", width=1, seed=5, trace=True, **narrow)
    assert_same(sampled, search(decoder, annotations, "greedy", trace=True))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_words_are_sampled_as_often_as_the_model_says(make_decoder, temperature: float):
    decoder, draws = make_decoder(scale=0.4), 4000
    annotations = torch.randn(1, L, D)
    (found,) = search(
        decoder, annotations, "sample", width=draws, max_length=1, temperature=temperature
    )
    log_probs = rescore(decoder, annotations[0], [4]).log_probs[0]
    log_probs[[PAD, START, UNKNOWN, END]] = float("-inf")
    expected = (log_probs / temperature).softmax(-1)
    counts = torch.tensor([h.ids[0] for h in found]).bincount(minlength=V)
    error = (expected * (1 - expected) / draws).sqrt()
    assert ((counts / draws - expected).abs() <= 4 * error).all()


@pytest.mark.parametrize("top_p", [0.3, 0.6, 0.9])
def test_nucleus_samples_never_leave_the_nucleus(make_decoder, annotations, top_p: float):
    decoder = make_decoder(scale=0.4)
    found = search(decoder, annotations, "sample", width=20, max_length=4, top_p=top_p)
    for annotation, hypotheses in zip(annotations, found, strict=True):
        for hypothesis in hypotheses:
            log_probs = rescore(decoder, annotation, hypothesis.ids).log_probs
            log_probs[:, [PAD, START, UNKNOWN]] = float("-inf")
            log_probs[0, END] = float("-inf")
            for probs, word in zip(log_probs.softmax(-1), hypothesis.ids, strict=True):
                likelier = float(probs[probs > probs[word]].sum())
                assert likelier < top_p + 1e-6


@pytest.mark.parametrize("seed", range(20))
def test_truncate_keeps_the_smallest_set_that_is_asked_for(seed: int):
    random = torch.Generator().manual_seed(seed)
    probs = (3 * torch.randn(5, 1 + 10 * seed, generator=random)).double().softmax(-1)
    top_k = int(torch.randint(0, 8, (), generator=random))
    top_p = float(torch.rand((), generator=random))
    for row, kept in zip(probs, truncate(probs, top_k, top_p), strict=True):
        expected, mass = torch.zeros_like(row), 0.0
        for place, word in enumerate(row.argsort(descending=True).tolist()):
            if place and (mass >= top_p or (top_k and place >= top_k)):
                break
            expected[word] = row[word]
            mass += float(row[word])
        assert torch.equal(kept, expected)


@pytest.mark.parametrize("size", [1, 50, 10_000])
def test_truncate_without_limits_keeps_everything(size: int):
    probs = (3 * torch.randn(8, size)).softmax(-1)
    assert torch.equal(truncate(probs, top_k=0, top_p=1.0), probs)
    assert torch.equal(truncate(probs, top_k=2 * size, top_p=1.0), probs)
