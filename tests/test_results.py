"""Anyone's captions.json finds its images, or the error names each that it does not find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from captioner.data.records import Record
from captioner.data.results import NAMED, read_results
from captioner.data.shapes import read_shapes


def records(*images: str, ids: tuple[str, ...] | None = None) -> list[Record]:
    """Records of image files; an image's id is its file's name where none is given."""
    pairs = zip(ids or images, images, strict=True)
    return [Record(id_, Path("images", image), ["a dog"], "val") for id_, image in pairs]


def read(tmp_path: Path, those: list[Record], *image_ids: Any) -> list[str]:
    """The captions read from a file that says "caption of <image_id>" of each."""
    entries = [{"image_id": each, "caption": f"caption of {each}"} for each in image_ids]
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(entries))
    return read_results(path, those)


@pytest.mark.parametrize(
    "image_ids",
    [("10_a.jpg", "007.jpg"), ("10_a", "007"), ("10_a.jpg", 7), ("10_a", "7")],
)
def test_captions_come_in_the_order_of_the_records(tmp_path: Path, image_ids: tuple):
    expected = [f"caption of {each}" for each in image_ids]
    assert read(tmp_path, records("10_a.jpg", "007.jpg"), *image_ids) == expected
    assert read(tmp_path, records("10_a.jpg", "007.jpg"), *image_ids[::-1]) == expected


@pytest.mark.parametrize("image_id", [391895, "391895", "000000391895", "000000391895.jpg"])
def test_coco_s_numbers_are_found_however_they_are_written(tmp_path: Path, image_id: int | str):
    coco = records("000000391895.jpg", "000000522418.jpg", ids=("391895", "522418"))
    found = read(tmp_path, coco, 522418, image_id)
    assert found == [f"caption of {image_id}", "caption of 522418"]


def test_scenes_are_found_by_their_ids(tmp_path: Path):
    scenes = read_shapes(1, 2, 1, 1).split("val")
    ids = [scene.image_id for scene in scenes]
    assert read(tmp_path, scenes, *ids[::-1]) == [f"caption of {each}" for each in ids]


def test_an_id_means_its_own_image_whatever_others_are_called(tmp_path: Path):
    confusing = records("2.jpg", "1.jpg", "01.jpg", ids=("1", "2", "x"))
    found = read(tmp_path, confusing, "2", "1", "01")
    assert found == ["caption of 1", "caption of 2", "caption of 01"]


def test_a_name_that_could_mean_two_images_means_none(tmp_path: Path):
    two = records("a.jpg", "a.png")
    assert read(tmp_path, two, "a.png", "a.jpg") == ["caption of a.jpg", "caption of a.png"]
    with pytest.raises(ValueError, match=r"no caption of a\.png; no such image: a$"):
        read(tmp_path, two, "a", "a.jpg")


def test_one_error_names_all_that_does_not_fit(tmp_path: Path):
    five = records(*(f"{i}.jpg" for i in "abcde"))
    with pytest.raises(ValueError) as raised:
        read(tmp_path, five, "a", "b.jpg", "z.jpg", 9, "a.jpg", "c.png", "e")
    assert str(raised.value).endswith(
        "captions.json does not fit the 5 images of split val: no caption of c.jpg, d.jpg; "
        "no such image: z.jpg, 9, c.png; a second one of a.jpg"
    )


def test_images_beyond_a_hundred_are_counted(tmp_path: Path):
    many = records(*(f"{i}.jpg" for i in range(NAMED + 30)))
    with pytest.raises(ValueError, match=rf"no caption of 0\.jpg, .*, {NAMED}\.jpg and 29 more$"):
        read(tmp_path, many, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ('{"annotations": []}', "needs a JSON list of objects with image_id and caption"),
        ('["a dog"]', r"\[0\] needs an image_id and a caption"),
        ('[{"image_id": "1", "caption": null}]', r"\[0\] needs an image_id and a caption"),
        ('[{"image_id": true, "caption": "a"}]', r"\[0\] needs an image_id and a caption"),
        ('[{"image": "1", "caption": "a"}]', r"\[0\] needs an image_id and a caption"),
    ],
)
def test_what_is_no_list_of_captions_is_refused(tmp_path: Path, text: str, message: str):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"mine.json:.*{message}"):
        read_results(path, records("1.jpg"))


def test_a_caption_may_be_empty(tmp_path: Path):
    path = tmp_path / "captions.json"
    path.write_text('[{"image_id": 1, "caption": ""}]')
    assert read_results(path, records("1.jpg")) == [""]
