from __future__ import annotations

import pytest

from captioner.data.drawing import Shape
from captioner.data.shape_captions import Group, captions, direction, place


def group(colour: str, kind: str, *centres: tuple[float, float], size: str = "small") -> Group:
    return Group(size, colour, kind, [Shape(kind, (0, 0, 0), x, y, 0.1, 0.0) for x, y in centres])


def square(x: float, y: float, half: float = 0.1) -> tuple[float, float, float, float]:
    return x - half, y - half, x + half, y + half


def test_two_groups_are_told_in_five_styles():
    circle = group("red", "circle", (0.5, 0.2), size="large")
    crosses = group("blue", "cross", (0.35, 0.7), (0.65, 0.7))
    assert captions([crosses, circle]) == [
        "a large red circle is above two small blue crosses",
        "two small blue crosses sit under a large red circle",
        "there is a large red circle with two small blue crosses below it",
        "this picture shows a large red circle and under it two small blue crosses",
        "you can see a large red circle above two small blue crosses",
    ]


def test_three_groups_are_told_from_the_one_at_the_corner():
    corner = group("green", "star", (0.7, 0.2), (0.7, 0.45))
    left = group("white", "ring", (0.2, 0.3))
    below = group("black", "heart", (0.7, 0.85))
    assert captions([below, left, corner]) == [
        "two small green stars are right of a small white ring and above a small black heart",
        "a small white ring sits to the left of two small green stars"
        " which are over a small black heart",
        "there are two small green stars with a small white ring to their left"
        " and a small black heart below them",
        "this picture shows two small green stars and on their left a small white ring"
        " and under them a small black heart",
        "you can see two small green stars on the right of a small white ring"
        " and above a small black heart",
    ]


def test_one_group_is_told_by_its_place():
    told = captions([group("red", "square", (0.75, 0.2))])
    assert told[0] == "a small red square is in the top right"
    assert told[4] == "you can see a small red square in the upper right corner"
    assert len(set(told)) == 5


def test_the_order_of_the_groups_does_not_change_what_is_told():
    groups = [group("red", "square", (0.2, 0.5)), group("blue", "ring", (0.5, 0.5))]
    groups.append(group("green", "star", (0.8, 0.5)))
    assert captions(groups) == captions(groups[::-1])
    assert captions(groups)[0].startswith("a small blue ring")  # the middle of the row


def test_captions_refuse_a_layout_that_no_words_fit():
    with pytest.raises(ValueError, match="must lie left of"):
        captions([group("red", "square", (0.2, 0.2)), group("blue", "ring", (0.8, 0.8))])
    with pytest.raises(ValueError, match="corner or in the centre"):
        captions([group("red", "square", (0.5, 0.2))])


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (square(0.2, 0.5), "left"),
        (square(0.8, 0.6), "right"),
        (square(0.45, 0.1), "above"),
        (square(0.5, 0.75), "below"),
        (square(0.8, 0.8), None),  # as far across as down
        (square(0.35, 0.5), None),  # reaches into the other
    ],
)
def test_direction(box, expected):
    assert direction(box, square(0.5, 0.5)) == expected


@pytest.mark.parametrize(
    ("centre", "expected"),
    [
        ((0.2, 0.2), "top left"),
        ((0.8, 0.3), "top right"),
        ((0.3, 0.8), "bottom left"),
        ((0.7, 0.7), "bottom right"),
        ((0.55, 0.45), "centre"),
        ((0.5, 0.2), None),
    ],
)
def test_place(centre, expected):
    assert place(square(*centre)) == expected
