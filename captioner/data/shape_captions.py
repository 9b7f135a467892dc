"""The language of the generated scenes: its words, what they mean, and five captions of a scene.

The grammar, where `{}` may repeat or be absent; `shape_reading.py` reads all of it:

    caption   = thing verb facts | opener thing facts
              | opener thing "with" thing beside {"and" thing beside}
              | opener thing "and" beside thing {"and" beside thing}
    facts     = fact {"and" fact}
    fact      = place | relation thing | relation thing "which" verb facts
    thing     = number size colour kind              "two small blue squares"
    opener    = "there is" | "there are" | "this picture shows" | "you can see"
    verb      = "is" | "are" | "sits" | "sit"
    place     = "in the top left", ...               relation = "to the left of", "above", ...
    beside    = "to its left", "above them", ...     its pronoun means the first thing named
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from captioner.data.drawing import KINDS, Shape
from captioner.data.records import Box

NUMBERS = {1: "a", 2: "two", 3: "three"}
SIZES = ("small", "large")
PLURALS = {kind: kind + ("es" if kind.endswith("s") else "s") for kind in KINDS}

# The wordings of each direction; the writer's styles choose by position, the reader takes any.
RELATIONS = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "above"),
    "below": ("below", "under", "beneath"),
}
BESIDE_IT = {
    "left": ("to its left", "on its left"),
    "right": ("to its right", "on its right"),
    "above": ("above it", "over it"),
    "below": ("below it", "under it"),
}
BESIDE_THEM = {
    direction: tuple(p.replace("its", "their").replace(" it", " them") for p in phrases)
    for direction, phrases in BESIDE_IT.items()
}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
PLACES = {
    f"{row} {side}": (
        f"in the {row} {side}",
        f"in the {row} {side} corner",
        f"at the {row} {side}",
        f"in the {outer} {side}",
        f"in the {outer} {side} corner",
    )
    for row, outer in (("top", "upper"), ("bottom", "lower"))
    for side in ("left", "right")
}
PLACES["centre"] = (
    "in the centre",
    "in the middle",
    "at the centre",
    "in the middle",
    "near the centre",
)


@dataclass
class Group:
    """Objects that a caption names together: one to three of one size, colour and kind."""

    size: str
    colour: str
    kind: str
    shapes: list[Shape]

    @property
    def count(self) -> int:
        return len(self.shapes)

    @property
    def plural(self) -> bool:
        return self.count > 1

    def boxes(self) -> list[Box]:
        return [shape.box() for shape in self.shapes]

    def box(self) -> Box:
        """The box around all its objects."""
        return around(self.boxes())

    def words(self) -> str:
        """Its name, such as "two small blue squares"."""
        noun = PLURALS[self.kind] if self.plural else self.kind
        return f"{NUMBERS[self.count]} {self.size} {self.colour} {noun}"


# What the words of place mean.


def around(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds all the boxes."""
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def direction(box: Box, other: Box, slant: float = 0.6) -> str | None:
    """Where `box` lies as seen from `other`: left, right, above, below, or None of them clearly.

    To be left of another, a box must end where the other starts or before, and its centre may be
    off the horizontal by at most `slant` times its distance. The boxes being those of all of a
    group, each object of one group then lies left of each of the other.
    """
    across, down = _centre_offset(box, other)
    if abs(down) <= slant * abs(across):
        if box[2] <= other[0]:
            return "left"
        return "right" if other[2] <= box[0] else None
    if abs(across) <= slant * abs(down):
        if box[3] <= other[1]:
            return "above"
        return "below" if other[3] <= box[1] else None
    return None


def _centre_offset(box: Box, other: Box) -> tuple[float, float]:
    across = (box[0] + box[2] - other[0] - other[2]) / 2
    down = (box[1] + box[3] - other[1] - other[3]) / 2
    return across, down


def place(box: Box) -> str | None:
    """The part of the image that the box's centre clearly lies in: a corner, the centre or None."""
    across, down = _centre_offset(box, (0.0, 0.0, 1.0, 1.0))
    if max(abs(across), abs(down)) <= 0.1:
        return "centre"
    if min(abs(across), abs(down)) < 0.1:
        return None
    return ("top" if down < 0 else "bottom") + (" left" if across < 0 else " right")


# Writing.


class View(NamedTuple):
    """A scene as its captions tell it: one group, and which way from it each other lies."""

    head: Group
    others: list[tuple[str, Group]]


def view(groups: Sequence[Group]) -> View:
    """The one order in which all captions of a scene tell it, chosen by what can be seen.

    Of two groups the left or upper one comes first. Of three it is the corner of the L or the
    middle of the row: the one from which the others lie in different directions.
    Raises ValueError when the groups do not lie so that the grammar can say where.
    """
    order = list(OPPOSITE)
    for head in groups:
        others = [(direction(g.box(), head.box()), g) for g in groups if g is not head]
        ways = [way for way, _ in others]
        if None in ways or len(set(ways)) < len(ways):
            continue
        if len(groups) == 2 and ways[0] not in ("right", "below"):
            continue
        return View(head, sorted(others, key=lambda other: order.index(other[0])))
    raise ValueError("the groups of a scene must lie left of, right of, above or below one another")


def captions(groups: Sequence[Group]) -> list[str]:
    """Five captions of the scene, one per style, each naming every group once.

    Raises ValueError when the groups do not lie so that the grammar can say where.
    """
    if len(groups) == 1:
        return _place_captions(groups[0])
    head, others = view(groups)
    name, verb = head.words(), _be(head)
    beside = BESIDE_THEM if head.plural else BESIDE_IT

    def facts(others: list[tuple[str, Group]], wording: int) -> str:
        """Where the head lies, seen from the others."""
        return " and ".join(f"{RELATIONS[OPPOSITE[d]][wording]} {g.words()}" for d, g in others)

    (way, first), *rest = others
    chain = f"{first.words()} {_sit(first)} {RELATIONS[way][1]} {name}"
    if rest:
        chain += f" which {verb} {facts(rest, 1)}"
    company = " and ".join(f"{g.words()} {beside[d][0]}" for d, g in others)
    listing = " and ".join(f"{beside[d][1]} {g.words()}" for d, g in others)
    return [
        f"{name} {verb} {facts(others, 0)}",
        chain,
        f"there {verb} {name} with {company}",
        f"this picture shows {name} and {listing}",
        f"you can see {name} {facts(others, 2)}",
    ]


def _place_captions(group: Group) -> list[str]:
    found = place(group.box())
    if found is None:
        raise ValueError("a lone group must lie in a corner or in the centre of the image")
    places, name = PLACES[found], group.words()
    return [
        f"{name} {_be(group)} {places[0]}",
        f"{name} {_sit(group)} {places[1]}",
        f"there {_be(group)} {name} {places[2]}",
        f"this picture shows {name} {places[3]}",
        f"you can see {name} {places[4]}",
    ]


def _be(group: Group) -> str:
    return "are" if group.plural else "is"


def _sit(group: Group) -> str:
    return "sit" if group.plural else "sits"
