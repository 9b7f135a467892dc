"""Regions lie on the encoder's locations, at the steps of the words that name them, in any view."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SIDE, build_tiny, scenes

from captioner.alignment import Alignment, visible
from captioner.data.augmentation import crop_of, view_of
from captioner.data.images import FITS, Transform
from captioner.data.loader import CaptionedImages, ImageSource, collate
from captioner.data.records import Box, Mention, Record
from captioner.grid import Grid
from captioner.metrics.grounding import coverage
from captioner.vocabulary import UNKNOWN, Vocabulary, words

GRID = Grid(4, 4, stride=16, offset=8, size=64)


class Dogs:
    """The word dog names the boxes, on a picture of 120 × 80 pixels."""

    shape = (120, 80)

    def __init__(self, *boxes: Box):
        self.boxes = list(boxes)

    def mentions(self, caption: list[str]) -> list[Mention]:
        return [Mention(i, self.boxes) for i, word in enumerate(caption) if word == "dog"]


def record(*captions: str, regions: Dogs | None = None) -> Record:
    return Record("1", Path("1.jpg"), list(captions), "train", regions)


def test_the_word_that_names_something_has_its_cells_and_no_other_word_has_any():
    dogs = Dogs((0.0, 0.0, 0.25, 0.5), (0.5, 0.5, 0.625, 0.75))
    align = Alignment(GRID, Transform(64, "squash"))
    regions = align(record(regions=dogs), ["A brown dog, a dog!", "Dog"])
    expected = torch.zeros(2, 6, 4, 4)
    where = torch.tensor([[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0.5, 0], [0, 0, 0, 0]])
    expected[0, 2] = expected[0, 4] = expected[1, 0] = where
    torch.testing.assert_close(regions, expected.flatten(2))
    assert not align(record(), ["A dog."]).any()  # of which nothing is known


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("view", range(7))
def test_cells_are_covered_as_far_as_the_encoder_sees_the_region(fit: str, view: int):
    """A white box on black: how bright a cell of the encoder's square is tells its share."""
    box = (24, 20, 84, 60)  # in pixels
    picture = Image.new("RGB", Dogs.shape)
    picture.paste((255, 255, 255), box)
    dogs = Dogs(tuple(edge / side for edge, side in zip(box, 2 * Dogs.shape, strict=True)))
    transform = Transform(64, fit)
    seen = transform.view(view_of(picture, "1", view))
    white = np.asarray(seen)[..., 0] > 190  # brighter than the bars
    share = white.reshape(4, 16, 4, 16).mean(axis=(1, 3))
    regions = Alignment(GRID, transform)(record(regions=dogs), ["dog"], view)
    assert regions[0, 0].view(4, 4).numpy() == pytest.approx(share, abs=0.12)
    assert share.max() > 0.5


def test_what_a_view_cuts_off_is_not_looked_for():
    view = next(view for view in range(1, 999) if crop_of("1", view).left > 0.2)
    left = record(regions=Dogs((0.0, 0.0, 0.2, 1.0)))
    transform = Transform(64, "squash")
    assert [m.index for m in visible(left, ["a", "dog"], transform)] == [1]
    assert visible(left, ["a", "dog"], transform, view) == []
    assert not Alignment(GRID, transform)(left, ["A dog."], view).any()


@pytest.mark.parametrize("together", [None, 2])
def test_a_batch_has_the_regions_of_each_caption_at_its_words(together: int | None):
    """Though captions are sorted by length, and rare words become `<unk>`."""
    grid, transform = build_tiny().model.encoder.grid, Transform(SIDE, "squash")
    source, align = ImageSource(transform), Alignment(grid, transform)
    captions = [text for each in scenes() for text in each.captions]
    vocabulary, few = (Vocabulary.build(captions, min_count) for min_count in (1, 40))
    images = CaptionedImages(scenes(), vocabulary, source, together, align)
    batch = collate([images[i] for i in range(len(images))])
    assert batch.regions.shape == (*batch.mask.shape, grid.height * grid.width)
    assert not batch.regions[~batch.mask].any()
    named = 0
    for n, item in enumerate(batch.items.tolist()):
        scene = images.records[item].regions
        known = {tuple(vocabulary.encode(text)): text for text in images.records[item].captions}
        for k in range(int(batch.mask[n, :, 0].sum())):
            ids = tuple(batch.targets[n, k, batch.mask[n, k]].tolist())
            caption = words(known[ids])
            expected = torch.zeros(batch.regions.shape[2:])
            for mention in scene.mentions(caption):
                covered = coverage(mention.boxes, (grid.height, grid.width), grid.centres)
                expected[mention.index] = torch.from_numpy(covered).flatten()
                named += 1
            torch.testing.assert_close(batch.regions[n, k], expected)
    assert batch.named == named > len(captions)
    assert batch.to(torch.device("cpu")).named == named
    images = CaptionedImages(scenes(), few, source, together, align)
    other = collate([images[i] for i in range(len(images))])
    assert (other.targets == UNKNOWN).any() and torch.equal(other.regions, batch.regions)


def test_without_being_asked_a_batch_has_no_regions():
    vocabulary = Vocabulary.build(text for each in scenes() for text in each.captions)
    images = CaptionedImages(scenes(), vocabulary, ImageSource(Transform(SIDE, "squash")))
    batch = collate([images[0], images[1]])
    assert batch.regions is None and batch.named == 0
