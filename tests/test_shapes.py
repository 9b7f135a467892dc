from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from captioner.data.drawing import COLOURS, KINDS
from captioner.data.records import Box, Record
from captioner.data.shapes import HELD_OUT, SPACING, Scene, read_shapes, sample_scene


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return read_shapes(train=600, val=150, test=150, novel=150).records


@pytest.fixture(scope="module")
def scenes(records: list[Record]) -> list[Scene]:
    return [record.image for record in records]


def boxes(scene: Scene) -> list[Box]:
    return [box for group in scene.groups for box in group.boxes()]


def pairs(scene: Scene) -> set[tuple[str, str]]:
    return {(group.colour, group.kind) for group in scene.groups}


def test_every_scene_has_five_different_captions_and_all_are_true(records):
    for record in records:
        assert len(set(record.captions)) == 5
        for caption in record.captions:
            reading = record.image.read(caption.split())
            assert reading.true, (caption, reading.problem)
            assert len(reading.mentions) == len(record.image.groups)


OTHER_WORD = {
    **dict(zip(COLOURS, [*list(COLOURS)[1:], "red"], strict=True)),
    **dict(zip(KINDS, [*KINDS[1:], KINDS[0]], strict=True)),
    "small": "large",
    "large": "small",
    "two": "three",
    "three": "two",
    "left": "right",
    "right": "left",
    "above": "below",
    "below": "above",
    "over": "under",
    "under": "over",
    "beneath": "above",
    "top": "bottom",
    "bottom": "top",
    "upper": "lower",
    "lower": "upper",
}


def test_a_caption_with_one_wrong_word_is_false(records):
    for record in records[:300]:
        for caption in record.captions:
            words = caption.split()
            for place, word in enumerate(words):
                if word in OTHER_WORD:
                    changed = [*words[:place], OTHER_WORD[word], *words[place + 1 :]]
                    assert not record.image.read(changed).true, " ".join(changed)


def test_a_caption_that_leaves_a_group_out_is_false(scenes):
    for scene in scenes:
        if len(scene.groups) == 3:
            fewer = scene.captions()[0].split(" and ")[0]
            assert scene.read(fewer.split()).problem.startswith("does not mention")


def test_what_a_shape_changes_in_the_picture_lies_in_its_box(scenes):
    for scene in scenes[:40]:
        whole = np.asarray(scene.draw())
        for number, group in enumerate(scene.groups):
            others = scene.groups[:number] + scene.groups[number + 1 :]
            rows, columns = np.nonzero(
                (whole != np.asarray(Scene(scene.seed, others).draw())).any(2)
            )
            box = np.array(group.box()) * whole.shape[0]
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(found - box).max() < 1.5


def test_objects_stay_in_the_frame_and_off_each_other(scenes):
    for scene in scenes:
        for left, top, right, bottom in boxes(scene):
            assert min(left, top) > 0
            assert max(right, bottom) < 1
        for one, other in combinations(boxes(scene), 2):
            assert max(apart(one, other)) > 0


def apart(one: Box, other: Box) -> tuple[float, float]:
    """Distances of two boxes, across and down; negative where they overlap."""
    across = max(one[0], other[0]) - min(one[2], other[2])
    down = max(one[1], other[1]) - min(one[3], other[3])
    return across, down


def test_objects_of_a_group_stand_like_the_pips_of_a_die(scenes):
    groups = [group for scene in scenes for group in scene.groups if group.plural]
    assert {group.count for group in groups} == {2, 3}
    for group in groups:
        *above, left, right = group.boxes()
        across, down = apart(left, right)
        assert SPACING[0] - 1e-9 <= across <= SPACING[1] + 1e-9
        assert down < 0
        for top in above:
            assert left[0] < (top[0] + top[2]) / 2 < right[2]
            assert SPACING[0] - 1e-9 <= min(left[1], right[1]) - top[3] <= SPACING[1]


def test_small_and_large_are_clearly_apart(scenes):
    groups = [group for scene in scenes for group in scene.groups]
    radii = {
        size: [shape.radius for group in groups if group.size == size for shape in group.shapes]
        for size in ("small", "large")
    }
    assert min(radii["large"]) > 1.5 * max(radii["small"])


def test_scenes_are_mixed(scenes):
    sizes = [len(scene.groups) for scene in scenes]
    assert 0.2 < sizes.count(1) / len(sizes) < 0.3
    assert 0.2 < sizes.count(3) / len(sizes) < 0.3
    assert max(len(boxes(scene)) for scene in scenes) == 4


def test_held_out_pairs_are_seen_in_novel_scenes_only(records):
    for record in records:
        assert bool(pairs(record.image) & set(HELD_OUT)) == (record.split == "novel")
    seen = set().union(*(pairs(r.image) for r in records if r.split == "train"))
    assert {colour for colour, _ in seen} == set(COLOURS)
    assert {kind for _, kind in seen} == set(KINDS)


def test_no_scene_is_there_twice(records):
    assert len({record.image_id for record in records}) == len(records)
    assert len({str(record.image.groups) for record in records}) == len(records)


def test_a_seed_gives_the_same_data_and_a_larger_split_begins_with_a_smaller_one():
    small, large = read_shapes(3, 2, 0, 0, seed=1), read_shapes(5, 2, 0, 0, seed=1)
    assert small.split("train") == large.split("train")[:3]
    assert small.split("val") == large.split("val")
    assert small.split("train") != read_shapes(3, 2, 0, 0, seed=2).split("train")
    assert small.records[0].image_id == "shapes-train-00000"


def test_a_scene_is_drawn_the_same_every_time():
    first, second = sample_scene(7).draw(), sample_scene(7).draw()
    assert first.mode == "RGB"
    assert first.size == (64, 64)
    assert first.tobytes() == second.tobytes()
    assert first.tobytes() != sample_scene(8).draw().tobytes()
    assert sample_scene(7).draw(384).size == (384, 384)


def test_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="val must be 0 or more, got -1"):
        read_shapes(val=-1)
    with pytest.raises(ValueError, match="seed must be 0 or more"):
        read_shapes(seed=-3)
