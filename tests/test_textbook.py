"""The textbook decoder is the same model as ours: else their times could not be compared."""

from __future__ import annotations

import pytest
import torch

from captioner.benchmark.contests import build_pair, decoder_shape
from captioner.benchmark.textbook import as_textbook
from captioner.benchmark.updates import one_image_per_caption, training_batch
from captioner.config import SizeOptions
from captioner.objectives import batch_loss
from captioner.search import search
from captioner.vocabulary import PAD, START

SIZES = SizeOptions(
    captions=7,
    per_image=3,
    locations=5,
    annotation=6,
    hidden=8,
    embedding=7,
    attention=4,
    vocabulary=23,
)


@pytest.fixture
def pair():
    """Both in double precision without dropout, with weights large enough to tell apart."""
    ours, _ = build_pair(decoder_shape(SIZES), torch.device("cpu"))
    ours = ours.double().eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(std=0.6)
    return ours, as_textbook(ours).eval()


def test_loss_and_gradients_are_ours(pair):
    ours, textbook = pair
    batch = training_batch(SIZES)
    sums = batch_loss(lambda images, *words: ours(*words, images.double()), batch)
    loss = (sums.cross_entropy + sums.penalty) / batch.captions
    features, targets = one_image_per_caption(batch)
    theirs = textbook.loss(features.double(), targets)
    torch.testing.assert_close(loss, theirs)
    loss.backward()
    theirs.backward()
    for one, other in (
        (ours.embedding, textbook.embedding),
        (ours.attention.key, textbook.attend_annotation),
        (ours.attention.query, textbook.attend_hidden),
        (ours.init.cell, textbook.init_cell),
        (ours.beta.gate, textbook.beta),
        (ours.output.words, textbook.output_words),
    ):
        torch.testing.assert_close(one.weight.grad, other.weight.grad)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_captions_are_ours(pair, width: int, seed: int):
    ours, textbook = pair
    torch.manual_seed(seed)
    annotations = torch.rand(3, 5, 6, dtype=torch.float64)
    found = search(ours, annotations, width=width, max_length=9, length_penalty=0.7)
    theirs = [textbook.search(each, width, 9, 0.7) for each in annotations]
    assert [row[0].ids for row in found] == theirs


def test_some_captions_end_before_the_limit(pair):
    """So that the test above is one of ended beams too."""
    _, textbook = pair
    annotations = torch.rand(20, 5, 6, dtype=torch.float64)
    assert len({len(textbook.search(each, 3, 9, 0.7)) for each in annotations}) > 1


def test_its_batch_holds_the_same_captions_longest_first():
    batch = training_batch(SIZES)
    features, targets = one_image_per_caption(batch)
    lengths = (targets != PAD).sum(1)
    assert (lengths.diff() <= 0).all() and len(targets) == SIZES.captions
    ours = batch.targets[batch.mask[..., 0]].tolist()
    assert sorted(ours) == sorted(targets.tolist())
    assert {START, PAD}.isdisjoint(targets[:, 0].tolist())
    images = {tuple(image.flatten().tolist()) for image in batch.images.float()}
    assert {tuple(image.flatten().tolist()) for image in features} == images
