"""Shards are read through once, and their images in place, in any order."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SIDE

from captioner.data.features import cache_features
from captioner.data.images import Transform, open_image
from captioner.data.loader import ImageSource
from captioner.data.readers import read_webdataset
from captioner.data.records import Collection
from captioner.models.encoder import build_encoder


def picture(seed: int) -> bytes:
    pixels, file = np.random.default_rng(seed).integers(0, 256, (9, 8, 3), np.uint8), io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def write(path: Path, files: dict[str, bytes | str | dict], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            if isinstance(content, dict):
                content = json.dumps(content)
            content = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def shard(root: Path, name: str, first: int, count: int = 2) -> Path:
    files = {}
    for i in range(first, first + count):
        files |= {f"{i}.json": {"captions": [f"dog {i}", f"a dog {i}"]}, f"{i}.png": picture(i)}
    return write(root / name, files)


def found(collection: Collection) -> dict[str, tuple[str, list[str]]]:
    return {r.image_id: (r.split, r.captions) for r in collection.records}


def test_shards_become_splits_and_a_place_in_them_an_image_s_id(tmp_path: Path):
    shard(tmp_path, "train-09.tar", 0)
    shard(tmp_path, "train-10.tar", 2)
    shard(tmp_path, "b/00.tar", 0, 1)
    shards = {"train": "train-{09..10}.tar", "val": "b/*.tar"}
    collection = read_webdataset(tmp_path, shards)
    assert collection.problems == []
    assert found(collection) == {
        "train-09/0": ("train", ["dog 0", "a dog 0"]),
        "train-09/1": ("train", ["dog 1", "a dog 1"]),
        "train-10/2": ("train", ["dog 2", "a dog 2"]),
        "train-10/3": ("train", ["dog 3", "a dog 3"]),
        "b/00/0": ("val", ["dog 0", "a dog 0"]),
    }


@pytest.mark.parametrize(
    ("pattern", "shards"),
    [
        ("{a,b}{1..2}.tar", ["a1", "a2", "b1", "b2"]),
        ("a*.tar", ["a1", "a2"]),
        ("{b2,a1}.tar", ["b2", "a1"]),
        ("a1.tar", ["a1"]),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, shards: list[str]):
    for number, name in enumerate(("a1", "a2", "b1", "b2")):
        shard(tmp_path, f"{name}.tar", number, 1)
    records = read_webdataset(tmp_path, {"train": pattern}).records
    assert [record.image_id.partition("/")[0] for record in records] == shards


def test_captions_come_from_json_or_else_from_text(tmp_path: Path):
    files = {
        "1.jpg": picture(1), "1.json": {"caption": "one dog"}, "1.txt": "not this",
        "2.cls": "7", "2.txt": "two dogs\n\n dogs \n", "2.JPG": picture(2),
        "d/3.v2.txt": "three", "d/3.jpg": picture(3), "d/3.json": "[not json", "d/3.txt": "a dog",
    }  # fmt: skip
    write(tmp_path / "s.tar", files)
    collection = read_webdataset(tmp_path, {"train": "s.tar"})
    assert found(collection) == {
        "s/1": ("train", ["one dog"]),
        "s/2": ("train", ["two dogs", "dogs"]),
        "s/d/3": ("train", ["a dog"]),
    }


def test_what_is_wrong_is_left_out_and_named(tmp_path: Path):
    files = {
        "1.jpg": picture(1), "1.txt": "a dog", "2.txt": "a cat", "3.jpg": picture(3),
        "4.jpg": picture(4), "4.json": {"captions": [7, "a cat"]},
    }  # fmt: skip
    write(tmp_path / "s.tar", files)
    collection = read_webdataset(tmp_path, {"train": "s.tar"})
    assert list(found(collection)) == ["s/1", "s/4"]
    for problem, said in zip(
        collection.problems, ("s/2: no image", "s/4 without words", "s/3 has no captions"),
        strict=True,
    ):  # fmt: skip
        assert said in problem


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("no.tar", "no.tar: no such file"),
        ("no-*.tar", r"no-\*.tar: no such shards"),
        ("packed.tar", "packed.tar: not a whole tar without compression"),
        ("cut.tar", "cut.tar: not a whole tar"),
        ("https://a.org/{0..9}.tar", "read in place, from disks; fetch them first"),
    ],
)
def test_shards_that_cannot_be_read_are_named(tmp_path: Path, pattern: str, message: str):
    write(tmp_path / "packed.tar", {"1.jpg": picture(1)}, "w:gz")
    whole = shard(tmp_path, "whole.tar", 0).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:1800])
    with pytest.raises(ValueError, match=message) as caught:
        read_webdataset(tmp_path, {"train": pattern})
    assert "\n" not in str(caught.value)


def test_an_image_is_read_in_place_cached_and_sent_to_workers_like_a_file(tmp_path: Path):
    shard(tmp_path, "s.tar", 0, 3)
    records = read_webdataset(tmp_path, {"train": "s.tar"}).records
    for number in (2, 0, 1):
        image = pickle.loads(pickle.dumps(records[number].image))
        expected = Image.open(io.BytesIO(picture(number)))
        assert np.array_equal(open_image(image), expected)
        assert (image.name, image.stem) == (f"{number}.png", f"{number}")
    transform = Transform(SIDE, "squash")
    encoder = build_encoder("tiny", SIDE)

    def cache():
        device = torch.device("cpu")
        return cache_features(encoder, transform, records, tmp_path / "c", lambda x, *_: x, device)

    plain, cached = ImageSource(transform), cache()
    with torch.no_grad():
        features = encoder.eval()(plain(records[1])[None])[0]
    torch.testing.assert_close(cached(records[1]).float(), features, rtol=1e-2, atol=1e-2)
    assert cache().folder == cached.folder
    shard(tmp_path, "s.tar", 1, 3)
    assert cache().folder != cached.folder


def test_a_damaged_image_is_named_with_its_shard(tmp_path: Path):
    write(tmp_path / "s.tar", {"1.jpg": picture(1)[:60], "1.txt": "a dog"})
    (record,) = read_webdataset(tmp_path, {"train": "s.tar"}).records
    with pytest.raises(ValueError, match=r"s\.tar:1\.jpg: "):
        open_image(record.image)
