"""Whether it looks at what it names, and names it because it looked there."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import KINDS, rescore
from torch import Tensor

from captioner.attention_scores import Probe, half_and_random, look, means
from captioner.data.images import Transform
from captioner.data.records import Box, Mention, Record
from captioner.grid import Grid
from captioner.metrics.metric import estimates, with_intervals
from captioner.models.decoder import Decoder, Trace
from captioner.search import Hypothesis
from captioner.vocabulary import Vocabulary

GRID = Grid(4, 4, stride=8, offset=4, size=32)
SQUASH = Transform(32, "squash")
VOCABULARY = Vocabulary(["a", "the", "on", "dog", "cat", "runs", "grass", "sees", "two"])
UPPER_LEFT, LOWER_RIGHT = (0.0, 0.0, 0.25, 0.25), (0.75, 0.75, 1.0, 1.0)  # cells 0 and 15


class Named:
    """Regions by single words."""

    def __init__(self, shape: tuple[int, int] = (1, 1), **boxes: Box):
        self.shape, self.boxes = shape, boxes

    def mentions(self, caption: list[str]) -> list[Mention]:
        return [Mention(i, [self.boxes[w]]) for i, w in enumerate(caption) if w in self.boxes]


def record(*captions: str, regions: Named | None = None) -> Record:
    return Record("1", Path("1.jpg"), list(captions), "val", regions)


def trace(locations: list[int], betas: list[float] | None = None) -> Trace:
    alpha = torch.eye(16)[locations]
    beta = torch.ones(len(locations), 1) if betas is None else torch.tensor(betas)[:, None]
    return Trace(alpha, beta, *[torch.zeros(len(locations), 1)] * 6)


def hypothesis(text: str, seen: Trace) -> Hypothesis:
    ids = VOCABULARY.encode(text)[:-1]
    return Hypothesis(ids, -1.0, -1.0, torch.zeros(len(ids)), seen, ended=True)


# What captions and their traces tell.


def test_object_words_are_scored_where_they_lie_and_gates_beside_function_words():
    regions = Named(dog=UPPER_LEFT, grass=LOWER_RIGHT)
    caption = ["a", "dog", "runs", "on", "the", "grass"]
    tally = look(
        record("-", regions=regions),
        caption,
        trace([3, 0, 3, 3, 3, 5], [0.1, 0.9, 0.5, 0.2, 0.3, 0.7]),
        GRID,
        SQUASH,
    )
    assert tally["pointing"] == [100, 0] and tally["attention-inside"] == [100, 0]
    assert tally["object-words"] == [2]
    assert tally["attention-entropy"] == [0, 0]
    assert tally["attention-coverage"] == [pytest.approx(100 * 3 / 16)]  # cells 0, 3 and 5
    assert tally["beta-object"] == pytest.approx([0.9, 0.7])
    assert tally["beta-function"] == pytest.approx([0.1, 0.2, 0.3])


def test_without_regions_content_words_stand_for_objects():
    caption, betas = ["a", "dog", "<unk>", "runs"], [0.2, 0.6, 0.5, 0.4]
    tally = look(record("-"), caption, trace([0] * 4, betas), GRID, SQUASH)
    assert tally["beta-content"] == pytest.approx([0.6, 0.4])
    assert tally["attention-entropy"] == [0, 0]
    assert not tally["pointing"] and "beta-object" not in tally


def test_without_a_gate_there_is_no_beta():
    tally = look(record("-"), ["a"], trace([0]), GRID, SQUASH)
    assert not [name for name in tally if name.startswith("beta")]


def test_an_empty_caption_looks_nowhere():
    tally = look(record("-", regions=Named()), [], trace([]), GRID, SQUASH)
    assert tally.pop("object-words") == [0] and not any(tally.values())


def test_boxes_are_moved_to_what_the_encoder_saw():
    """Of a picture three times as wide as high; a crop shows nothing of its left third."""
    regions = Named((3, 1), dog=(0.0, 0.0, 1 / 3, 0.25), cat=(1 / 3, 0.0, 0.5, 0.25))
    caption, one, other = ["dog", "cat"], trace([0, 0]), trace([0, 1])
    crop = look(record("-", regions=regions), caption, one, GRID, Transform(32, "crop"))
    assert crop["pointing"] == [100] and crop["attention-inside"] == [100]
    squash = look(record("-", regions=regions), caption, other, GRID, SQUASH)
    assert squash["attention-inside"] == pytest.approx([100, 200 / 3])


def test_means_are_over_words_and_resampled_by_image():
    metrics = list(means([{"x": [1.0, 2.0], "y": []}, {"x": [6.0], "y": []}, {}]))
    assert estimates(metrics) == {"x": pytest.approx(3)}
    assert with_intervals(metrics).keys() == {"x", "x-low", "x-high"}


# The smallest set that holds half.


def test_half_of_attention_by_hand():
    alpha = torch.tensor([[0.1, 0.3, 0.25, 0.35], [0.0, 0.6, 0.2, 0.2], [0.5, 0.5, 0.0, 0.0]])
    noise = torch.tensor([[4.0, 1, 2, 3], [3.0, 0, 1, 2], [0.0, 1, 2, 3]])
    half, random = half_and_random(alpha, noise)
    assert half.tolist() == [
        [False, True, False, True],
        [False, True, False, False],
        [False, True, False, False],
    ]
    assert random.tolist() == [
        [True, False, False, True],
        [True, False, False, False],
        [False, False, False, True],
    ]


def test_half_is_the_smallest_set_and_random_as_large():
    alpha, noise = torch.rand(200, 30).pow(4), torch.rand(200, 30)
    alpha /= alpha.sum(-1, keepdim=True)
    half, random = half_and_random(alpha, noise)
    held = torch.where(half, alpha, 0)
    assert (held.sum(-1) >= 0.5 - 1e-6).all()
    least = torch.where(half, alpha, 2).amin(-1)
    assert (held.sum(-1) - least < 0.5).all()  # one location less would not do
    assert (torch.where(half, 0, alpha).amax(-1) <= least).all()
    assert torch.equal(half.sum(-1), random.sum(-1)) and not torch.equal(half, random)
    assert random.float().mean(0).std() < 0.1  # no place is preferred


# The decoder, asked once more.


def probe(decoder: Decoder) -> Probe:
    return Probe(decoder, VOCABULARY, GRID, SQUASH)


def seer(kind: str = "soft") -> Decoder:
    """Says `dog` (7) where it sees a location with feature 0, at which alone it looks."""
    decoder = Decoder(len(VOCABULARY), 4, 4, 4, 4, attention_kind=kind, beta="none").eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
        if kind == "soft":
            decoder.attention.key.weight[0, 0] = 3
            decoder.attention.score.weight[0, 0] = 10
        decoder.output.context.weight[0, 0] = 10
        decoder.output.words.weight[7, 0] = 1
    return decoder


def pictures(locations: list[int]) -> Tensor:
    annotations = torch.zeros(len(locations), 16, 4)
    annotations[range(len(locations)), locations, 0] = 1
    annotations[..., 1] = torch.rand(len(locations), 16)  # that nothing depends on
    return annotations


def seen_share(feature: float) -> float:
    """The seer's attention on one location with so much of the feature, of 16."""
    weight = math.exp(10 * math.tanh(3 * feature))
    return weight / (weight + 15)


def test_without_what_it_saw_the_word_is_gone_but_not_without_other_places():
    locations = [i % 16 for i in range(80)]
    annotations, records = pictures(locations), [record("-")] * 80
    seen = [hypothesis("a dog", trace([i, i])) for i in locations]
    tallies = probe(seer()).deletion(records, annotations, seen)
    assert all(len(values) == 1 for tally in tallies for values in tally.values())  # of `dog`
    scores = with_intervals(list(means(tallies)))
    # Its logit against 12 words with 0, of the whole picture and with a sixteenth of the feature.
    logits = [10 * seen_share(feature) * feature for feature in (1, 1 / 16)]
    whole, masked = (-math.log1p(12 * math.exp(-logit)) for logit in logits)
    gone = whole - masked
    assert scores["deletion-attended"] == pytest.approx(gone, abs=1e-3)
    assert scores["deletion-random"] == pytest.approx(gone / 16, abs=0.2)
    assert scores["deletion-difference-low"] > 1


def test_without_attention_no_place_matters_more_than_another():
    decoder = seer("none")
    even = Trace(torch.full((2, 16), 1 / 16), *[torch.ones(2, 1)] * 7)
    seen = [hypothesis("a dog", even)] * 20
    tallies = probe(decoder).deletion([record("-")] * 20, pictures([3] * 20), seen)
    scores = with_intervals(list(means(tallies)))
    assert scores["deletion-attended"] == scores["deletion-random"] != 0
    assert [scores[f"deletion-difference{end}"] for end in ("", "-low", "-high")] == [0, 0, 0]


@pytest.mark.parametrize(
    "kind", ["soft", *sorted(KINDS.keys() - {"no-attention"})]
)  # it has no half
def test_drops_are_what_reading_a_masked_picture_tells(make_decoder, kind: str):
    decoder = make_decoder(**KINDS.get(kind, {}))
    annotations = torch.rand(3, 16, 6)
    texts = ("a dog sees the cat", "two cat", "dog")
    hypotheses = []
    for picture, text in zip(annotations, texts, strict=True):
        ids = VOCABULARY.encode(text)[:-1]
        hypotheses.append(hypothesis(text, rescore(decoder, picture, ids).trace))
    found = probe(decoder).deletion([record("-")] * 3, annotations, hypotheses)
    for picture, one, tally in zip(annotations, hypotheses, found, strict=True):
        expected = []
        for t, i in enumerate(one.ids):
            if i < 7:  # a function word
                continue
            half, _ = half_and_random(one.trace.alpha[None, t], torch.zeros(1, 16))
            masked = torch.where(half[0, :, None], picture.mean(0), picture)
            whole, less = (rescore(decoder, p, one.ids).log_probs[t, i] for p in (picture, masked))
            expected.append(float(whole - less))
        assert sorted(tally["deletion-attended"]) == pytest.approx(sorted(expected), abs=1e-4)


def test_batches_change_nothing(make_decoder):
    decoder, annotations = make_decoder(), torch.rand(4, 16, 6)
    records = [record("a dog", regions=Named(dog=UPPER_LEFT))] * 4
    ids = VOCABULARY.encode("a dog")[:-1]
    seen = [hypothesis("a dog", rescore(decoder, each, ids).trace) for each in annotations]
    together, apart = probe(decoder)(records, annotations, seen), probe(decoder)
    for n, tally in enumerate(together):
        (alone,) = apart(records[n : n + 1], annotations[n : n + 1], seen[n : n + 1])
        assert alone.keys() == tally.keys()
        for name, values in tally.items():
            assert alone[name] == pytest.approx(values, abs=1e-4)


def test_references_are_read_with_the_places_of_their_own_words():
    """It looks at cell 0 before every word, where the dog is, and the cat is not."""
    regions = Named(dog=UPPER_LEFT, cat=LOWER_RIGHT)
    known = record("A dog sees the cat.", "Dog!", regions=regions)
    tallies = probe(seer()).references([known, record("a dog")], pictures([0, 0]))
    assert tallies[0]["reference-pointing"] == [100, 0, 100]
    assert tallies[0]["reference-attention-inside"] == pytest.approx([100, 0, 100], abs=0.1)
    assert not any(tallies[1].values())


@pytest.mark.parametrize("kind", ["soft", *KINDS])
def test_references_are_read_as_one_by_one(make_decoder, kind: str):
    decoder, annotations = make_decoder(**KINDS.get(kind, {})), torch.rand(2, 16, 6)
    captions = [[[7, 8], [9]], [[4, 5, 7, 8]]]
    alphas = probe(decoder)._read(captions, annotations)
    for n, several in enumerate(captions):
        for k, ids in enumerate(several):
            expected = rescore(decoder, annotations[n], ids).trace.alpha.reshape(-1, 4, 4)
            assert np.allclose(alphas[n, k, : len(ids)], expected, atol=1e-5)
