"""Every image once per epoch, in an order that seed and epoch alone decide."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import SIDE, scenes

from captioner.data.images import Transform
from captioner.data.loader import (
    CaptionedImages,
    EpochBatches,
    ImageSource,
    Item,
    PackedCaptions,
    collate,
    training_loader,
)
from captioner.data.records import Record
from captioner.vocabulary import END, PAD, START, UNKNOWN, Vocabulary

LENGTHS = np.random.default_rng(0).integers(3, 30, 203)


def updates(batches: EpochBatches) -> list[list[list[int]]]:
    """The epoch's updates, each as its pieces."""
    pieces, each = list(batches), batches.accumulation
    return [pieces[i : i + each] for i in range(0, len(pieces), each)]


def joined(pieces: list[list[int]]) -> list[int]:
    return sorted(itertools.chain(*pieces))


# Which images form which batch.


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize(("count", "images"), [(203, 16), (24, 24), (37, 100), (12, 12)])
def test_every_image_comes_once_however_an_update_is_shared_out(
    count: int, images: int, processes: int, accumulation: int
):
    whole = updates(EpochBatches(LENGTHS[:count], images))
    ranks = [
        updates(EpochBatches(LENGTHS[:count], images, 0, accumulation, rank, processes))
        for rank in range(processes)
    ]
    # All processes take part in each update, in as many pieces, and together see what one would.
    together = [joined(itertools.chain(*shares)) for shares in zip(*ranks, strict=True)]
    assert together == [joined(update) for update in whole]
    assert joined(together) == list(range(count))
    assert all(len(update) <= images for update in together)
    pieces = [piece for rank in ranks for update in rank for piece in update]
    assert len(pieces) == len(together) * processes * accumulation
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


def test_seed_and_epoch_decide_the_order_and_nothing_else_does():
    first = list(EpochBatches(LENGTHS, 16, seed=1).at(2))
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002  (the global generator is the point)
    used = EpochBatches(LENGTHS, 16, seed=1)
    list(used.at(7))
    assert list(used.at(2)) == first
    assert list(used.at(3)) != first
    assert list(EpochBatches(LENGTHS, 16, seed=2).at(2)) != first
    assert list(EpochBatches(LENGTHS, 16, seed=2).at(1)) != first


def test_images_meet_others_in_each_epoch_and_lengths_come_in_no_order():
    epochs = [list(EpochBatches(LENGTHS, 16).at(epoch)) for epoch in range(2)]
    alike = {frozenset(batch) for batch in epochs[0]} & {frozenset(batch) for batch in epochs[1]}
    assert len(alike) < len(epochs[0]) / 2
    means = [LENGTHS[batch].mean() for batch in epochs[0]]
    assert means != sorted(means) and means != sorted(means, reverse=True)


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("first", [0, 1, 5, 13])
def test_an_epoch_goes_on_from_any_update(first: int, accumulation: int):
    batches = EpochBatches(LENGTHS, 16, accumulation=accumulation)
    whole = list(batches.at(4))
    assert batches.updates == 13 and len(batches) == len(whole) == 13 * accumulation
    assert list(batches.at(4, first)) == whole[first * accumulation :]
    assert len(batches) == len(whole) - first * accumulation


def test_each_image_comes_in_a_random_one_of_its_views():
    count, views = len(LENGTHS), 4
    plain = list(EpochBatches(LENGTHS, 16, seed=1))
    epochs = [list(EpochBatches(LENGTHS, 16, seed=1, views=views).at(n)) for n in range(2)]
    assert [[index % count for index in batch] for batch in epochs[0]] == plain
    seen = [{i % count: i // count for batch in epoch for i in batch} for epoch in epochs]
    assert set(seen[0].values()) == set(range(views))
    assert 0.6 * count < sum(seen[0][i] != seen[1][i] for i in range(count)) < 0.9 * count
    resumed = EpochBatches(LENGTHS, 16, seed=1, views=views).at(0, 5)
    assert list(resumed) == epochs[0][5:]


def test_buckets_of_like_lengths_save_padding():
    def padding(batches: list[list[int]]) -> int:
        return sum(int((LENGTHS[batch].max() - LENGTHS[batch]).sum()) for batch in batches)

    shuffled = np.array_split(np.random.default_rng(1).permutation(len(LENGTHS)), 13)
    assert padding(list(EpochBatches(LENGTHS, 16))) < 0.25 * padding(shuffled)


def test_with_one_length_each_update_holds_that_length_and_is_full_but_for_the_last():
    for epoch in range(2):
        batches = list(EpochBatches(LENGTHS, 4, one_length=True).at(epoch))
        assert joined(batches) == list(range(len(LENGTHS)))
        for length in np.unique(LENGTHS):
            of_it = [batch for batch in batches if (LENGTHS[batch] == length).any()]
            assert all((LENGTHS[batch] == length).all() for batch in of_it)
            full, rest = divmod(int((length == LENGTHS).sum()), 4)
            assert sorted(map(len, of_it)) == [rest] * (rest > 0) + [4] * full
        order = [LENGTHS[batch[0]] for batch in batches]
        assert order != sorted(order)


@pytest.mark.parametrize(("processes", "accumulation"), [(1, 1), (2, 1), (1, 3), (2, 2)])
def test_one_length_goes_on_from_any_update_and_leaves_no_process_without_work(
    processes: int, accumulation: int
):
    def rank(number: int) -> EpochBatches:
        return EpochBatches(LENGTHS, 8, 1, accumulation, number, processes, one_length=True)

    shares = [updates(rank(number)) for number in range(processes)]
    assert all(piece for share in shares for update in share for piece in update)
    together = [joined(itertools.chain(*update)) for update in zip(*shares, strict=True)]
    assert joined(together) == list(range(len(LENGTHS)))
    alike = sum(len(set(LENGTHS[update])) == 1 for update in together)
    assert alike == len(together) if processes * accumulation == 1 else alike > len(together) / 2
    assert updates(rank(0).at(0, 5)) == shares[0][5:]


@pytest.mark.parametrize(
    ("count", "images", "accumulation", "processes"),
    [(3, 2, 2, 1), (5, 8, 3, 2), (9, 4, 1, 4), (1, 1, 1, 2)],
)
def test_too_few_images_for_all_pieces_are_refused(count, images, accumulation, processes):
    message = f"{count} images in updates of {images} .* raise training.batch_images"
    with pytest.raises(ValueError, match=message) as caught:
        EpochBatches(LENGTHS[:count], images, 0, accumulation, 0, processes)
    assert "\n" not in str(caught.value)


# What a batch holds.


def picture(value: int) -> torch.Tensor:
    return torch.full((3, 2, 2), value, dtype=torch.uint8)


def test_captions_are_padded_and_shifted():
    one = Item(picture(1), [[5, 6, END], [7, END]], 4)
    batch = collate([one, Item(picture(2), [[8, 9, 9, END]], 0)])
    assert batch.images.tolist() == torch.stack([picture(1), picture(2)]).tolist()
    assert batch.targets.tolist() == [
        [[5, 6, END, PAD], [7, END, PAD, PAD]],
        [[8, 9, 9, END], [PAD] * 4],
    ]
    assert batch.tokens.tolist() == [
        [[START, 5, 6, END], [START, 7, END, PAD]],
        [[START, 8, 9, 9], [START, PAD, PAD, PAD]],
    ]
    assert batch.mask.tolist() == (batch.targets != PAD).tolist()
    assert batch.items.tolist() == [4, 0]
    assert (batch.captions, batch.words) == (3, 9)


def captioned(counts: list[list[int]]) -> CaptionedImages:
    """Images whose captions have so many words."""
    records = [
        Record(str(i), Path(f"{i}.jpg"), [" ".join(["dog"] * n) for n in lengths], "train")
        for i, lengths in enumerate(counts)
    ]
    return CaptionedImages(records, Vocabulary(["dog"]), lambda record, view: picture(0))


def test_the_longest_caption_stands_first_so_that_no_column_of_the_mask_grows():
    random = np.random.default_rng(2)
    images = captioned([random.integers(1, 9, random.integers(1, 6)).tolist() for _ in range(9)])
    mask = collate([images[i] for i in range(9)]).mask
    alive = mask.any(0).int()  # (K, T)
    assert (alive.diff(dim=0) <= 0).all() and (alive.diff(dim=1) <= 0).all()
    assert (mask.sum(-1).diff(dim=1) <= 0).all()
    assert images.lengths == mask.sum(-1).max(1).values.tolist()


def test_an_index_tells_item_and_view():
    records = [Record(name, Path(name), ["dog"], "train") for name in "abc"]
    images = CaptionedImages(
        records, Vocabulary(["dog"]), lambda record, view: (record.image_id, view)
    )
    assert [images[i].image for i in (1, 5, 8)] == [("b", 0), ("c", 1), ("c", 2)]
    assert [images[i].number for i in (1, 5, 8)] == [1, 2, 2]


def test_a_drawn_picture_is_kept_and_its_views_are_not_mixed_up_with_it():
    source, (record, *_) = ImageSource(Transform(SIDE, "squash")), scenes()
    plain, varied = source(record), source(record, 1)
    assert not torch.equal(plain, varied)
    assert torch.equal(source(record), plain) and torch.equal(source(record, 1), varied)


def test_packed_captions_are_the_lists_again():
    items = [[[4, 5, END], [END]], [[70_000, END]], [[9, 8, 7, END], [6, END], [5, END]]]
    packed = PackedCaptions(iter(items))
    assert [packed[i] for i in range(len(packed))] == items
    assert packed.first_lengths.tolist() == [3, 2, 4]


def test_captions_are_encoded_and_end():
    record = Record("1", Path("1.jpg"), ["A dog.", "a dog and a CAT"], "train")
    images = CaptionedImages([record], Vocabulary(["a", "dog"]), lambda record, view: picture(0))
    assert images[0][1] == [[4, 5, UNKNOWN, 4, UNKNOWN, END], [4, 5, END]]


def test_workers_give_the_same_batches_epoch_by_epoch_and_from_any_update():
    vocabulary = Vocabulary(["a", "small", "red"])
    images = CaptionedImages(scenes(), vocabulary, ImageSource(Transform(SIDE, "squash")))
    batches = [EpochBatches(images.lengths, 4, seed=3) for _ in range(2)]
    loaders = [training_loader(images, batches[workers], workers) for workers in range(2)]
    for epoch, first in ((0, 0), (1, 2)):
        for each in batches:
            each.at(epoch, first)
        for one, other in zip(*loaders, strict=True):
            assert one.regions is other.regions is None
            pairs = [(vars(one)[name], vars(other)[name]) for name in vars(one)]
            assert all(torch.equal(*pair) for pair in pairs if pair != (None, None))


def test_batches_hold_the_pixels_of_their_images_and_draw_nothing_from_the_global_generator():
    records = scenes()
    vocabulary = Vocabulary.build(text for record in records for text in record.captions)
    transform = Transform(SIDE, "squash")
    images = CaptionedImages(records, vocabulary, ImageSource(transform))
    batches = EpochBatches(images.lengths, 5, seed=3)
    before = torch.get_rng_state()
    loaded = list(training_loader(images, batches))
    assert torch.equal(torch.get_rng_state(), before)
    for batch, numbers in zip(loaded, batches, strict=True):
        expected = [transform(records[number].image.draw()) for number in numbers]
        assert torch.equal(batch.images, torch.stack(expected))
        assert batch.captions == 5 * len(numbers)
