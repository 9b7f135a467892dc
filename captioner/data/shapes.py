"""The embedded data set: scenes of coloured shapes, drawn from a seed whenever they are looked at.

Small enough to train on in minutes, and every fact is known: how many objects there are, of which
colour, size and kind, and where. So captions can be checked for truth and attention for place.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from captioner.data.drawing import COLOURS, KINDS, Shape, draw
from captioner.data.records import Box, Collection, Mention, Record
from captioner.data.shape_captions import Group, around, captions, direction
from captioner.data.shape_reading import Reading, mentions, read

SPLITS = ("train", "val", "test", "novel")
SEEDS_PER_SPLIT = 2**32
"""So far apart that no two splits share a scene."""

HELD_OUT = tuple(zip(COLOURS, KINDS, strict=True))
"""The (colour, kind) pairs that only the split `novel` shows."""
SEEN = tuple(
    (colour, kind) for colour in COLOURS for kind in KINDS if (colour, kind) not in HELD_OUT
)

RADII = {"small": (0.11, 0.12), "large": (0.182, 0.194)}
MARGIN = 0.02
"""Least distance of an object from the image's edge."""
GAP = 0.05
"""Least distance between groups, along the direction that a caption tells."""
FORMATION = {1: (1,), 2: (2,), 3: (1, 2)}
"""The objects of a group stand in rows, so near that they are seen as one: how many in each."""
SPACING = (0.02, 0.035)
"""Distances between the objects of a group."""
MAX_OBJECTS = 4
MAX_TILT = math.radians(12)
"""Less than what makes a square a diamond."""


@dataclass
class Scene:
    """Groups of shapes on a background that depends on `seed`."""

    seed: int
    groups: list[Group]

    def draw(self, size: int = 64) -> Image.Image:
        """The scene as an RGB picture; the same scene at every size, sharper where larger."""
        shapes = [shape for group in self.groups for shape in group.shapes]
        return draw(shapes, self.seed, size)

    def captions(self) -> list[str]:
        """Five true captions, one in each style, always in the same order of styles."""
        return captions(self.groups)

    def read(self, words: Sequence[str]) -> Reading:
        """Checks any caption, as lower-cased words without punctuation, against this scene."""
        return read(words, self.groups)

    @property
    def shape(self) -> tuple[int, int]:
        """As all `Regions` have it."""
        return 1, 1

    def mentions(self, words: Sequence[str]) -> list[Mention]:
        """As all `Regions` have it: the kind words that with their colour name a group."""
        return mentions(words, self.groups)


def read_shapes(
    train: int = 10_000, val: int = 500, test: int = 500, novel: int = 500, seed: int = 0
) -> Collection:
    """A collection of `train`, `val`, `test` and `novel` scenes, the same ones for the same seed.

    A larger split begins with the scenes of a smaller one. Each scene of `novel` shows at least
    one of the HELD_OUT pairs of colour and kind, which the other splits never show.
    Raises ValueError for a negative number or seed.
    """
    sizes = dict(zip(SPLITS, (train, val, test, novel), strict=True))
    for option, value in {**sizes, "seed": seed}.items():
        if value < 0:
            raise ValueError(f"shapes: {option} must be 0 or more, got {value}")
    records = []
    for place, (split, size) in enumerate(sizes.items()):
        first = (seed * len(SPLITS) + place) * SEEDS_PER_SPLIT
        for number in range(size):
            scene = sample_scene(first + number, novel=split == "novel")
            name = f"shapes-{split}-{number:05d}"
            records.append(Record(name, scene, scene.captions(), split, regions=scene))
    return Collection(records)


def sample_scene(seed: int, novel: bool = False) -> Scene:
    """The scene that belongs to the seed; with `novel`, one that shows a HELD_OUT pair."""
    rng = random.Random(str(seed))  # hashed: as ints, n and n + (n - 1) * 2**32 are the same seed
    count = rng.choices((1, 2, 3), weights=(1, 2, 1))[0]
    # Groups too large to lie side by side are replaced, never shrunk: sizes must stay apart.
    while True:
        groups = _sample_groups(rng, count, novel)
        boxes = [group.box() for group in groups]
        for _ in range(20):
            spots = _lay_alone(rng, boxes[0]) if count == 1 else _lay_around(rng, boxes)
            if spots:
                return Scene(seed, [_moved(*pair) for pair in zip(groups, spots, strict=True)])


# Which groups.


def _sample_groups(rng: random.Random, count: int, novel: bool) -> list[Group]:
    """Groups around the origin, no two of the same colour and kind."""
    names = rng.sample(SEEN, count)
    if novel:
        names[rng.randrange(count)] = rng.choice(HELD_OUT)
    members = rng.choices((1, 2, 3), weights=(2, 1, 1), k=count)
    while sum(members) > MAX_OBJECTS:
        members = rng.choices((1, 2, 3), weights=(2, 1, 1), k=count)
    return [_sample_group(rng, *name, number) for name, number in zip(names, members, strict=True)]


def _sample_group(rng: random.Random, colour: str, kind: str, count: int) -> Group:
    size = rng.choice(list(RADII))
    rgb = tuple(min(255, max(0, level + rng.randint(-10, 10))) for level in COLOURS[colour])
    gap = rng.uniform(*SPACING)
    shapes, top = [], 0.0
    for length in FORMATION[count]:
        row = []
        for _ in range(length):
            tilt = rng.uniform(-MAX_TILT, MAX_TILT)
            row.append(Shape(kind, rgb, 0, 0, rng.uniform(*RADII[size]), tilt))
        placed = _in_a_row(row, top, gap)
        shapes += placed
        top = around([shape.box() for shape in placed])[3] + gap
    return Group(size, colour, kind, shapes)


def _in_a_row(shapes: list[Shape], top: float, gap: float) -> list[Shape]:
    """The shapes side by side, `gap` between their boxes, centred on x = 0, their tops at `top`."""
    boxes = [shape.box() for shape in shapes]
    width = sum(right - left for left, _, right, _ in boxes) + gap * (len(boxes) - 1)
    x, placed = -width / 2, []
    for shape, (left, upper, right, _) in zip(shapes, boxes, strict=True):
        placed.append(replace(shape, x=x - left, y=top - upper))
        x += right - left + gap
    return placed


# Where they lie. A layout gives each group's box its spot in the image, or is empty if it failed.


def _lay_alone(rng: random.Random, box: Box) -> list[Box]:
    """In the centre or in a corner, further in than a caption's truth asks for."""
    if rng.random() < 0.2:
        return [_centred(box, 0.5 + rng.uniform(-0.06, 0.06), 0.5 + rng.uniform(-0.06, 0.06))]
    x, y = (0.5 + rng.choice((-1, 1)) * rng.uniform(0.18, 0.4) for _ in range(2))
    spot = _centred(box, x, y)
    return [spot] if min(spot) >= MARGIN and max(spot) <= 1 - MARGIN else []


def _lay_around(rng: random.Random, boxes: list[Box]) -> list[Box]:
    """An other to the right of the first or below it, or one each.

    So the group that captions begin with is always the one nearest to the top left.
    """
    head = boxes[0]
    ways = rng.sample(("right", "below"), len(boxes) - 1)
    others = [_beside(rng, box, head, way) for box, way in zip(boxes[1:], ways, strict=True)]
    if len(others) == 2 and not _diagonal(*others):
        return []
    return _anywhere(rng, [head, *others])


def _anywhere(rng: random.Random, spots: list[Box]) -> list[Box]:
    """The whole layout, moved to a place where it is inside the frame, if it fits in."""
    left, top, right, bottom = around(spots)
    room = 1 - 2 * MARGIN
    if max(right - left, bottom - top) > room:
        return []
    x = MARGIN - left + rng.uniform(0, room - (right - left))
    y = MARGIN - top + rng.uniform(0, room - (bottom - top))
    return [(box[0] + x, box[1] + y, box[2] + x, box[3] + y) for box in spots]


def _diagonal(box: Box, other: Box) -> bool:
    """Whether the boxes lie apart, and so far off both axes that no caption would relate them."""
    gaps = (other[0] - box[2], box[0] - other[2], other[1] - box[3], box[1] - other[3])
    return max(gaps) >= GAP and direction(box, other, slant=0.8) is None


def _beside(rng: random.Random, box: Box, head: Box, way: str) -> Box:
    """The box in the given direction from the head, closer to the axis than truth asks for."""
    axis = 0 if way in ("left", "right") else 1
    halves = (box[axis + 2] - box[axis] + head[axis + 2] - head[axis]) / 2
    along = halves + GAP + rng.uniform(0, 0.25)
    offset = [0.0, 0.0]
    offset[axis] = -along if way in ("left", "above") else along
    offset[1 - axis] = rng.uniform(-0.4, 0.4) * along
    return _centred(box, (head[0] + head[2]) / 2 + offset[0], (head[1] + head[3]) / 2 + offset[1])


def _centred(box: Box, x: float, y: float) -> Box:
    half_width, half_height = (box[2] - box[0]) / 2, (box[3] - box[1]) / 2
    return x - half_width, y - half_height, x + half_width, y + half_height


def _moved(group: Group, spot: Box) -> Group:
    """The group, moved so that `spot` is its box."""
    left, top, _, _ = group.box()
    x, y = spot[0] - left, spot[1] - top
    shapes = [replace(shape, x=shape.x + x, y=shape.y + y) for shape in group.shapes]
    return replace(group, shapes=shapes)
