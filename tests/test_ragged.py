"""Words step by step, and captions side by side."""

from __future__ import annotations

import torch

from captioner.models.ragged import attended, in_order, places_of

# Lengths 3 and 1, and 2 and none: at the last step only the first image's first has a word.
MASK = torch.arange(4) < torch.tensor([[3, 1], [2, 0]])[..., None]


def test_what_was_spread_is_picked_again():
    for places in places_of(MASK):
        rows = torch.randn(places.count, 2)
        assert torch.equal(places.pick(places.spread(rows)), rows)


def test_words_stand_where_their_captions_do_and_the_rest_is_zero():
    words = torch.arange(1, 7)
    places = places_of(MASK)
    steps = zip(places, words.split([each.count for each in places]), strict=True)
    spread = [each.spread(rows).tolist() for each, rows in steps]
    assert spread == [[[1, 2], [3, 0]], [[4], [5]], [[6], [0]], [[], []]]


def test_rows_are_in_the_order_of_the_words():
    values, places = torch.randn(2, 2, 4), places_of(MASK)
    rows = in_order(values, MASK).split([each.count for each in places])
    for t, each in enumerate(places):
        assert torch.equal(rows[t], each.only(values[..., t]))


def test_captions_that_go_on_are_told_from_those_that_have_ended():
    first, second, third, _ = places_of(MASK)
    assert second.among(first).tolist() == [True, False, True]
    assert third.among(second).tolist() == [True, False]


def test_attended_is_a_sum_over_each_captions_words():
    alphas = torch.rand(2, 2, 4, 5)
    total = attended(in_order(alphas, MASK), MASK)
    torch.testing.assert_close(total, (alphas * MASK[..., None]).sum(2))
