"""Words step by step, and captions side by side."""

from __future__ import annotations

import torch

from captioner.models.ragged import Rows, attended, in_order

# Lengths 3 and 1, and 2 and none: at the last step only the first image's first has a word.
MASK = torch.arange(4) < torch.tensor([[3, 1], [2, 0]])[..., None]


def test_what_was_spread_is_picked_again():
    rows, values = Rows(MASK), torch.arange(12.0).view(6, 2)
    steps = rows.spread(values)
    assert [tuple(step.shape) for step in steps] == [(2, 2, 2), (2, 1, 2), (2, 1, 2), (2, 0, 2)]
    assert torch.equal(rows.pick(steps), values)


def test_words_stand_where_their_captions_do_and_the_rest_is_zero():
    steps = Rows(MASK).spread(torch.arange(1, 7))
    assert [step.tolist() for step in steps[:3]] == [[[1, 2], [3, 0]], [[4], [5]], [[6], [0]]]


def test_rows_are_in_the_order_of_the_words():
    values = torch.randn(2, 2, 4)
    steps = Rows(MASK).spread(in_order(values, MASK))
    for t, step in enumerate(steps):
        assert torch.equal(step, (values * MASK)[:, : step.shape[1], t])


def test_a_gradient_goes_to_words_alone():
    rows, values = Rows(MASK), torch.randn(6, 2).double().requires_grad_()
    steps = [step.requires_grad_() for step in rows.spread(values.detach())]
    rows.pick(steps).sum().backward()
    assert [int(step.grad.sum()) for step in steps] == [6, 4, 2, 0]
    assert torch.autograd.gradcheck(
        lambda v: torch.cat([s.flatten() for s in rows.spread(v)]), values
    )


def test_attended_is_a_sum_over_each_captions_words():
    alphas = torch.rand(2, 2, 4, 5)
    total = attended(in_order(alphas, MASK), MASK)
    torch.testing.assert_close(total, (alphas * MASK[..., None]).sum(2))
