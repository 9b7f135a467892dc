"""Rewards, baselines, and a gradient that is checked against all captions there can be."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from bench import Bench, copied, equal
from helpers import with_biases
from tiny import SIDE, Tiny, build_tiny, scenes
from torch import Tensor

from captioner.config import LossOptions
from captioner.data.images import Transform
from captioner.data.loader import Batch, CaptionedImages, ImageSource, collate
from captioner.losses import policy_gradient
from captioner.metrics.cider import CiderD
from captioner.models.decoder import Decoder
from captioner.objectives import CiderReward, SelfCritical, mean_of_others
from captioner.search import search
from captioner.vocabulary import END, PAD, START, UNKNOWN, UNWRITTEN, words

SCST = LossOptions(objective="self_critical", penalty=0.0)


@pytest.fixture
def tiny() -> Tiny:
    return build_tiny(dropout=0.5)


def batch_of_scenes(tiny: Tiny) -> Batch:
    images = CaptionedImages(scenes(), tiny.vocabulary, ImageSource(Transform(SIDE, "squash")))
    return collate([images[i] for i in (5, 0, 7)])


def own_captions(tiny: Tiny, **options: int | str) -> SelfCritical:
    rewards = CiderReward(scenes(), tiny.vocabulary)
    return SelfCritical(tiny.model, rewards, **{"max_length": 9, **options})


# What a caption is worth.


def test_the_reward_is_cider_d_with_the_end_as_a_word(tiny: Tiny):
    rewards, records = CiderReward(scenes(), tiny.vocabulary), scenes()
    ended = [[[*words(text), "<end>"] for text in record.captions] for record in records]
    captions = [tiny.vocabulary.encode(records[i].captions[1]) for i in (3, 3, 4, 9)]
    captions[1] = captions[1][:-1]  # breaks off
    captions[2] = captions[2][2:4] + captions[2]
    length = max(map(len, captions))
    padded = torch.tensor([[START, *ids, *[PAD] * (length - len(ids))] for ids in captions])
    found = rewards(torch.tensor([3, 5]), padded.view(2, 2, -1))
    texts = [[tiny.vocabulary.entries[i] for i in ids] for ids in captions]
    assert texts[0][-1] == "<end>" != texts[1][-1]
    expected = CiderD(ended)(texts, [ended[i] for i in (3, 3, 5, 5)])
    assert found.flatten().tolist() == pytest.approx(expected.tolist(), abs=1e-9)
    assert found[0, 0] > found[0, 1] > 0


def test_advantages_over_the_others_sum_to_zero_in_each_image():
    rewards = torch.rand(6, 5).double()
    baselines = mean_of_others(rewards)
    assert (rewards - baselines).sum(-1).abs().max() < 1e-12
    assert float(baselines[2, 3]) == pytest.approx(float(rewards[2, [0, 1, 2, 4]].mean()))


@pytest.mark.parametrize("baseline", ["others", "greedy"])
def test_a_lesson_holds_samples_with_their_rewards_above_the_baseline(tiny: Tiny, baseline: str):
    objective, batch = own_captions(tiny, baseline=baseline, samples=4), batch_of_scenes(tiny)
    lesson = objective.lesson(batch)
    own = lesson.batch
    assert own.mask.shape[:2] == (3, 4) and (own.mask.sum(-1).diff(dim=1) <= 0).all()
    assert torch.equal(own.images, batch.images) and torch.equal(own.items, batch.items)
    assert not torch.isin(own.targets[own.mask], torch.tensor(UNWRITTEN)).any()
    rewards = objective.rewards(batch.items, own.targets)
    baselines = mean_of_others(rewards)
    if baseline == "greedy":
        found = search(
            tiny.model.decoder, tiny.model.annotate(batch.images), "greedy", max_length=9
        )
        greedy = [[*h[0].ids, *[END][: h[0].ended]] for h in found]
        greedy = torch.tensor([[[*ids, *[PAD] * (10 - len(ids))]] for ids in greedy])
        baselines = objective.rewards(batch.items, greedy).expand_as(rewards)
    torch.testing.assert_close(lesson.advantages, (rewards - baselines) / 100)
    expected = {"words": own.words, "captions": 12, "reward": float(rewards.sum())}
    assert lesson.sums == pytest.approx({**expected, "baseline": float(baselines.sum())})


# The gradient.

V, LONGEST = 6, 2  # words 4 and 5 can be written


def all_captions() -> list[list[int]]:
    """Each that can be written: ended by itself, or cut off at the longest."""
    ended = [[*ids, END] for n in range(LONGEST) for ids in itertools.product((4, 5), repeat=n)]
    return ended + [list(ids) for ids in itertools.product((4, 5), repeat=LONGEST)]


def log_prob(decoder: Decoder, annotations: Tensor, ids: list[int]) -> Tensor:
    """Word by word, by `step`, with the words that are never written left out."""
    memory = decoder.remember(annotations)
    state, total = decoder.start(memory), 0.0
    for before, word in zip([START, *ids], ids, strict=False):
        logits, state, _ = decoder.step(torch.tensor([[before]]), state, memory)
        logits[..., [PAD, START, UNKNOWN]] = float("-inf")
        total = total + logits[0, 0].log_softmax(-1)[word]
    return total


def worth(ids: list[int]) -> float:
    """Any reward that differs from caption to caption, and by how it ends."""
    return 100.0 * (len(ids) % 2) + 40.0 * sum(ids) - 25.0 * (ids[-1] == END)


@pytest.fixture
def toy(make_decoder) -> SimpleNamespace:
    """What `SelfCritical` asks of a model: a decoder, with as many locations as features."""
    decoder = with_biases(make_decoder(vocabulary=V, tied_output=True, scale=0.5), {UNKNOWN: 1.0})
    model = SimpleNamespace(decoder=decoder, annotate=lambda images: images)
    model.forward = lambda images, tokens, mask: decoder(tokens, mask, images)
    return model


@pytest.mark.parametrize("baseline", ["others", "greedy"])
def test_its_mean_is_the_gradient_of_the_expected_reward(toy, baseline: str):
    """Against a sum over all captions; a wrong sign, or a word or end left out, would show."""
    annotations, parameters = torch.randn(1, 4, 6), list(toy.decoder.parameters())

    def rewards(items: Tensor, captions: Tensor) -> Tensor:
        found = [[i for i in ids if i not in (PAD, START)] for ids in captions[0].tolist()]
        return torch.tensor([[worth(ids) for ids in found]]).double()

    chances = [log_prob(toy.decoder, annotations, ids).exp() for ids in all_captions()]
    assert float(sum(chances)) == pytest.approx(1, abs=1e-5)
    expected = sum(p * worth(ids) for p, ids in zip(chances, all_captions(), strict=True)) / 100
    gradient = torch.autograd.grad(-expected, parameters, allow_unused=True)
    draws = 60_000
    objective = SelfCritical(toy, rewards, draws, baseline, max_length=LONGEST)
    lesson = objective.lesson(Batch(annotations, *[None] * 3, torch.tensor([0])))
    loss = objective.loss(toy.forward, lesson, 0.0).cross_entropy / draws
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    exact, estimate = (
        torch.cat([g.flatten() for g in several if g is not None]) for several in (gradient, found)
    )
    assert (estimate - exact).norm() < 0.05 * exact.norm()


def test_each_word_weighs_as_much_as_its_captions_advantage():
    logits = torch.randn(3, V).requires_grad_()
    targets, advantages = torch.tensor([4, END, 5]), torch.tensor([2.0, 2.0, -0.5])
    policy_gradient(logits, targets, advantages).backward()
    possible = logits.detach().clone()
    possible[:, [PAD, START, UNKNOWN]] = float("-inf")
    one_hot = torch.nn.functional.one_hot(targets, V)
    expected = advantages[:, None] * (possible.softmax(-1) - one_hot)
    torch.testing.assert_close(logits.grad, expected)


def test_samples_and_gradient_are_of_the_same_policy(tiny: Tiny):
    """The unroll gives the samples the log-probability that they were drawn with: no dropout."""
    objective, batch = own_captions(tiny, samples=4), batch_of_scenes(tiny)
    tiny.model.train()
    lesson = objective.lesson(batch)
    assert tiny.model.encoder.training and not tiny.model.decoder.training
    one = objective.loss(tiny.model, lesson, 0.0)
    assert torch.equal(one.cross_entropy, objective.loss(tiny.model, lesson, 0.0).cross_entropy)
    alone = lesson._replace(advantages=torch.ones(3, 4))
    total = -float(objective.loss(tiny.model, alone, 0.0).cross_entropy)
    found = [
        float(log_prob(tiny.model.decoder, tiny.model.annotate(image[None]), [i for i in ids if i]))
        for image, several in zip(batch.images, lesson.batch.targets.tolist(), strict=True)
        for ids in several
    ]
    assert total == pytest.approx(sum(found), rel=1e-4)


# In training.


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_the_mean_reward_rises(tmp_path: Path, kind: str):
    decoder = {"attention_kind": kind}
    taught = Bench(tmp_path / "taught", epochs=8, learning_rate=1e-2, decoder=decoder).fit()
    recipe = {"loss": replace(SCST, samples=10), "fine_tune_from": None, "decoder": decoder}
    bench = Bench(tmp_path / "scst", epochs=24, learning_rate=3e-3, **recipe)
    bench.model.load_state_dict(copied(taught.model))
    lines = bench.fit().lines()
    first, last = (sum(line["reward"] for line in part) for part in (lines[:6], lines[-6:]))
    assert last > 1.2 * first > 0
    assert all(line["baseline"] == pytest.approx(line["reward"]) for line in lines)
    log = bench.lines("log")[-1]
    assert log["reward"] == pytest.approx(sum(line["reward"] for line in lines[-3:]) / 3)


def test_a_trainer_restored_goes_on_as_if_nothing_had_happened(tmp_path: Path):
    recipe = {"loss": SCST, "epochs": 2, "save_every": 2, "ema": 0.9, "accumulation": 2}
    whole = Bench(tmp_path / "whole", **recipe).fit()
    start = [saved for saved in whole.saved if saved.name == "last"][1]
    resumed = Bench(tmp_path / "resumed", **recipe)
    torch.manual_seed(99)
    resumed.model.load_state_dict(start.weights)
    resumed.trainer.restore(start.state)
    resumed.fit()
    assert resumed.lines() == whole.lines()[2:]
    assert equal(copied(resumed.model), copied(whole.model))
