"""Section 4.1: what is drawn, what is read, and that the estimators learn what they should."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from captioner.losses import caption_loss, reinforce
from captioner.models.attention import Look, SoftAttention
from captioner.models.decoder import Decoder
from captioner.models.hard import HardAttention
from captioner.models.lstm import State
from captioner.models.ragged import in_order

N, K, L, D, H, A = 4, 3, 9, 6, 8, 5
ESTIMATORS = ("reinforce", "gumbel", "straight_through")
WORD = torch.zeros(1)  # which hard attention does not look at


def build(estimator: str, **options: float) -> HardAttention:
    """Attention in training, in double precision, that is far from even."""
    attention = HardAttention(D, H, A, estimator=estimator, **options).double()
    with torch.no_grad():
        attention.score.weight.mul_(5)
    return attention


@pytest.fixture
def annotations() -> Tensor:
    return torch.randn(N, L, D).double()


def look(attention: HardAttention, annotations: Tensor, captions: int = K) -> Look:
    """Hidden states differ from image to image, not among an image's captions."""
    torch.manual_seed(2)
    hidden = torch.randn(len(annotations), 1, H).double().expand(-1, captions, -1)
    return attention(State(hidden, hidden), WORD, attention.remember(annotations))


def locations(context: Tensor, annotations: Tensor) -> Tensor:
    """Which annotation each context is, (N, K); every context must be one."""
    same = (context[:, :, None] == annotations[:, None]).all(-1)
    assert (same.sum(-1) == 1).all()
    return same.int().argmax(-1)


# What is read.


@pytest.mark.parametrize("estimator", ["reinforce", "straight_through"])
def test_a_location_is_read_as_often_as_alpha_says(annotations: Tensor, estimator: str):
    draws = 4000
    seen = look(build(estimator, expectation=0.0), annotations, captions=draws)
    drawn = locations(seen.context, annotations)
    often = torch.stack([(drawn == i).double().mean(-1) for i in range(L)], dim=-1)
    alpha = seen.alpha[:, 0]
    spread = (alpha * (1 - alpha) / draws).sqrt()
    assert ((often - alpha).abs() <= 5 * spread + 1e-9).all()
    assert often.max() > 0.15 and (drawn[:, :1] != drawn).any()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_at_rest_the_likeliest_location_is_read_and_nothing_is_drawn(annotations, estimator):
    attention = build(estimator).eval()
    before = torch.get_rng_state()
    memory = attention.remember(annotations)
    assert torch.equal(torch.get_rng_state(), before)
    hidden = torch.randn(N, K, H).double()
    before = torch.get_rng_state()
    seen = attention(State(hidden, hidden), WORD, memory)
    assert torch.equal(torch.get_rng_state(), before) and seen.draw is None
    assert torch.equal(locations(seen.context, annotations), seen.alpha.argmax(-1))
    soft = SoftAttention(D, H, A).double()
    soft.load_state_dict(attention.state_dict())
    same = soft(State(hidden, hidden), WORD, soft.remember(annotations))
    assert torch.equal(seen.alpha, same.alpha)


def test_what_is_drawn_comes_with_its_log_probability_and_entropy(annotations: Tensor):
    seen = look(build("reinforce", expectation=0.0), annotations)
    at = locations(seen.context, annotations)
    log_prob = seen.alpha.log().gather(-1, at[..., None])[..., 0]
    torch.testing.assert_close(seen.draw.log_prob, log_prob)
    torch.testing.assert_close(seen.draw.entropy, -(seen.alpha * seen.alpha.log()).sum(-1))


def test_images_read_by_expectation_are_so_for_a_whole_caption_and_draw_nothing():
    annotations, attention = torch.randn(400, L, D).double(), build("reinforce", expectation=0.5)
    memory = attention.remember(annotations)
    for _ in range(2):  # words
        hidden = torch.randn(400, K, H).double()
        seen = attention(State(hidden, hidden), WORD, memory)
        expected = torch.isclose(seen.context, seen.alpha @ annotations).all(-1)
        assert torch.equal(expected, memory.expected[..., 0].expand(-1, K))
        assert torch.equal(seen.draw.log_prob == 0, expected)
        assert (seen.draw.entropy > 0).all()
    assert 0.4 < memory.expected.double().mean() < 0.6


@pytest.mark.parametrize(("temperature", "even"), [(1e-4, False), (1e4, True)])
def test_the_temperature_leads_a_relaxed_draw_from_one_location_to_all(
    annotations: Tensor, temperature: float, even: bool
):
    seen = look(build("gumbel", temperature=temperature), annotations)
    if even:
        mean = annotations.mean(1)[:, None].expand(-1, K, -1)
        torch.testing.assert_close(seen.context, mean, rtol=0, atol=1e-2)
    else:
        nearest = torch.cdist(seen.context, annotations).min(-1).values
        assert (nearest < 1e-9).double().mean() > 0.8


# What is learnt.


def test_straight_through_reads_one_location_and_learns_as_the_relaxed_draw(annotations: Tensor):
    """For a loss that is linear in ẑ the two gradients are the same, the draws being the same."""
    found, direction = {}, torch.randn(N, K, D).double()
    for estimator in ("gumbel", "straight_through"):
        torch.manual_seed(0)
        attention = build(estimator, temperature=0.7)
        seen = look(attention, annotations)
        (seen.context * direction).sum().backward()
        found[estimator] = seen.context, [p.grad for p in attention.parameters()]
    locations(found["straight_through"][0], annotations)
    assert not torch.allclose(found["gumbel"][0], found["straight_through"][0], atol=1e-3)
    for one, other in zip(found["gumbel"][1], found["straight_through"][1], strict=True):
        torch.testing.assert_close(one, other)
        assert one.abs().max() > 1e-3


STEPS, PLACES = 3, 3


@pytest.fixture
def story(make_decoder) -> tuple[Decoder, Tensor, Tensor]:
    """A decoder with hard attention, and one caption of three words on three locations."""
    decoder = make_decoder(attention_kind="hard", expectation=0.0).double().train()
    tokens = torch.randint(4, 13, (1, 1, STEPS + 1))
    return decoder, tokens, torch.randn(1, PLACES, D).double()


def forced(monkeypatch: pytest.MonkeyPatch, places: tuple[int, ...]) -> None:
    """Makes chance fall on these locations, word by word."""
    plan = iter(places)
    monkeypatch.setattr(Categorical, "sample", lambda self: torch.full((1, 1), next(plan)))


def told(decoder: Decoder, tokens: Tensor, annotations: Tensor, baseline: float) -> list[Tensor]:
    """Cross-entropy, what REINFORCE adds to it, and log p(s), of captions in columns."""
    mask = torch.ones_like(tokens[..., 1:], dtype=torch.bool)
    targets = in_order(tokens[..., 1:], mask)
    logits, attended, draw, _ = decoder(tokens[..., :-1], mask, annotations)
    loss = caption_loss(logits, targets, attended, mask[..., 0]).cross_entropy.double()
    surrogate = reinforce(logits, targets, draw.log_prob, mask, baseline)
    return [loss, surrogate, draw.log_prob.sum()]


def gradient(loss: Tensor, module: nn.Module) -> Tensor:
    found = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
    return torch.cat([part.flatten() for part in found])


@pytest.fixture
def averages(story, monkeypatch) -> Callable[[nn.Module, float], tuple[Tensor, Tensor]]:
    """Equation (11) with all sequences of locations gone through, and REINFORCE's average."""
    decoder, tokens, annotations = story

    def average(module: nn.Module, baseline: float) -> tuple[Tensor, Tensor]:
        expected = estimated = 0.0
        for places in itertools.product(range(PLACES), repeat=STEPS):
            with monkeypatch.context() as patch:
                forced(patch, places)
                loss, surrogate, log_prob = told(decoder, tokens, annotations, baseline)
            chance = log_prob.exp()
            expected = expected + chance * loss
            estimated = estimated + chance.detach() * (loss + surrogate)
        return gradient(expected, module), gradient(estimated, module)

    return average


@pytest.mark.parametrize("baseline", [0.0, -2.3])
def test_reinforce_is_on_average_exactly_the_gradient_of_the_expected_loss(
    story, averages, baseline: float
):
    expected, estimated = averages(story[0], baseline)
    torch.testing.assert_close(estimated, expected, rtol=1e-4, atol=1e-5)


def test_captions_drawn_at_random_lead_attention_the_same_way(story, averages):
    decoder, tokens, annotations = story
    captions = 240_000
    loss, surrogate, _ = told(decoder, tokens.expand(1, captions, -1), annotations, -2.3)
    found = gradient((loss + surrogate) / captions, decoder.attention)
    expected, _ = averages(decoder.attention, 0.0)
    assert (found - expected).norm() < 0.1 * expected.norm()
