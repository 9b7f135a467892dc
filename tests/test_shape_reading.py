from __future__ import annotations

import pytest

from captioner.data.drawing import Shape
from captioner.data.shape_captions import Group
from captioner.data.shape_reading import Reading, read


def group(size: str, colour: str, kind: str, *centres: tuple[float, float]) -> Group:
    return Group(size, colour, kind, [Shape(kind, (0, 0, 0), x, y, 0.1, 0.0) for x, y in centres])


CIRCLE = group("large", "red", "circle", (0.5, 0.2))
STARS = group("small", "blue", "star", (0.4, 0.7), (0.65, 0.7))
RING = group("small", "white", "ring", (0.85, 0.2))


def told(caption: str, *groups: Group) -> Reading:
    return read(caption.split(), groups or (CIRCLE, STARS))


@pytest.mark.parametrize(
    "caption",
    [
        "two small blue stars are beneath a large red circle",
        "a large red circle sits over two small blue stars",
        "there are two small blue stars with a large red circle above them",
        "there are two small blue stars below a large red circle",
        "you can see two small blue stars and over them a large red circle",
        "this picture shows a large red circle with two small blue stars under it",
    ],
)
def test_a_true_sentence_is_true_in_any_order_and_style(caption):
    assert told(caption) == Reading(True, None, told(caption).mentions)


@pytest.mark.parametrize(
    "caption",
    [
        "{circle} is above {stars} and left of {ring}",
        "{ring} is to the right of {circle} which is over {stars}",
        "{stars} sit under {circle} which sits on the left of {ring}",
        "there is {circle} with {stars} below it and {ring} to its right",
        "you can see {circle} and on its right {ring} and under it {stars}",
    ],
)
def test_three_groups_in_any_order_and_style(caption):
    groups = {"circle": CIRCLE, "stars": STARS, "ring": RING}
    names = {word: group.words() for word, group in groups.items()}
    reading = told(caption.format(**names), *groups.values())
    assert reading.true, reading.problem
    assert len(reading.mentions) == 3


def test_a_lone_group_has_a_place():
    assert told("a small white ring sits in the top right corner", RING).true
    assert told("there is a small white ring in the upper right", RING).true
    assert not told("there is a small white ring in the upper left", RING).true
    assert not told("there is a small white ring", RING).true


@pytest.mark.parametrize(
    ("caption", "problem"),
    [
        ("a large red square is above two small blue stars", "has no red square"),
        ("a small red circle is above two small blue stars", "says small red circle, it is large"),
        ("a large red circle is above three small blue stars", "says 3 blue star, there are 2"),
        ("a large red circle is below two small blue stars", "below the blue star, it is above"),
        (
            "a large red circle is left of two small blue stars",
            "left of the blue star, it is above",
        ),
        ("a large red circle is in the centre", "does not mention two small blue stars"),
        (
            "a large red circle is above two small blue stars and above two small blue stars",
            "says blue star twice",
        ),
        (
            "a large red circle is above two small blue stars and in the top left",
            "says the red circle in the top left, it is not clearly anywhere",
        ),
    ],
)
def test_a_false_sentence_is_false_and_says_why(caption, problem):
    reading = told(caption)
    assert not reading.true
    assert problem in reading.problem


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a",
        "a large red circle",
        "there is a large red circle",
        "a large red circle is above",
        "a large red circle is above two small blue stars and",
        "a large red circle is above two small blue stars the",
        "a large red circle above two small blue stars",
        "a large red circle are above two small blue stars",
        "there is two small blue stars below a large red circle",
        "a large red circle is above two small blue star",
        "a red large circle is above two small blue stars",
        "a large red circle is to left of two small blue stars",
        "there is a large red circle with two small blue stars below them",
        "a large red circle is with two small blue stars below it",
        "a large red circle is above two small blue stars which is below it",
    ],
)
def test_what_is_not_a_sentence_is_false_and_names_the_word(caption):
    reading = told(caption)
    assert not reading.true
    assert "as word" in reading.problem or "there is" in reading.problem


def test_mentions_are_given_where_the_caption_is_false_and_only_of_what_is_there():
    reading = told("a small red circle is green square under seven blue stars")
    assert [mention.index for mention in reading.mentions] == [3, 10]
    assert reading.mentions[0].boxes == CIRCLE.boxes()
    assert reading.mentions[1].boxes == STARS.boxes()
