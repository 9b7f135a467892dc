"""Whatever is in a data set's files, a reader gives a usable collection or one ValueError."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzing import changed, damaged, read_or_refused
from hypothesis import example, given
from hypothesis import strategies as st

from captioner.data.readers import (
    read_coco,
    read_csv,
    read_entities,
    read_flickr8k,
    read_karpathy,
    read_webdataset,
)
from captioner.data.records import Collection, Record
from captioner.data.results import read_results
from captioner.vocabulary import words

NAMES = ("a.jpg", "b.jpg", "c.jpg")
COCO = {
    "images": [{"id": n, "file_name": name} for n, name in enumerate(NAMES)],
    "annotations": [{"image_id": n, "caption": f"A dog {n} ."} for n in range(3)],
}
KARPATHY = {
    "images": [
        {
            "filename": name,
            "filepath": "",
            "cocoid": n,
            "split": split,
            "sentences": [{"raw": "One dog ."}, {"raw": "A cat !"}],
        }
        for n, (name, split) in enumerate(zip(NAMES, ("train", "restval", "val"), strict=True))
    ]
}
RESULTS = [{"image_id": name, "caption": "a dog"} for name in NAMES]
TOKENS = "".join(f"{name}#{n}\tA dog {n} .\n" for name in NAMES for n in range(2)).encode()
TABLE = b'image,caption,split\na.jpg,"A dog, big",train\nb.jpg,A cat,val\nc.jpg,A bird,test\n'
XML = b"""<annotation><size><width>9</width><height>5</height></size>
<object><name>7</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>5</ymax></bndbox>
</object><object><name>8</name><scene>1</scene></object></annotation>"""
SENTENCES = b"[/EN#7/people A big dog] sees [/EN#8/scene/other the sea] .\nNo phrase .\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in NAMES:
        (folder / name).write_bytes(b"")
    return folder


def usable(collection: Collection | None) -> None:
    """Each image is there, with captions that have words, and each problem is a line."""
    for record in collection.records if collection else ():
        assert record.captions and all(words(caption) for caption in record.captions)
        assert record.image_id and record.split and record.image.name in NAMES
    for problem in collection.problems if collection else ():
        assert problem and "\n" not in problem


def as_json(content: Any) -> bytes:
    return json.dumps(content).encode()


def json_of(content: Any) -> st.SearchStrategy[bytes]:
    """A JSON file that is damaged as bytes or says something else."""
    return damaged(as_json(content)) | changed(content).map(as_json)


def reads(folder: Path, name: str, content: bytes, read: Callable[[Path], Collection]) -> None:
    (folder / name).write_bytes(content)
    usable(read_or_refused(lambda: read(folder / name)))


@given(json_of(COCO))
@example(b"[" * 200_000)
@example(b'{"images": ' + b"9" * 5_000 + b"}")
def test_coco(folder: Path, content: bytes):
    reads(folder, "x.json", content, lambda file: read_coco({"train": file}, {"train": folder}))


@given(json_of(KARPATHY))
@example(as_json(KARPATHY).replace(b'"cocoid": 0', b'"cocoid": ""'))
def test_karpathy(folder: Path, content: bytes):
    reads(folder, "x.json", content, lambda file: read_karpathy(file, folder))


@given(damaged(TOKENS), damaged("\n".join(NAMES).encode()))
def test_flickr8k(folder: Path, tokens: bytes, listed: bytes):
    (folder / "Flickr_8k.trainImages.txt").write_bytes(listed)
    reads(folder, "Flickr8k.token.txt", tokens, lambda _: read_flickr8k(folder))


@given(damaged(TABLE))
@example(b'image,caption\na.jpg,"' + b"x" * 200_000)
def test_csv(folder: Path, content: bytes):
    reads(folder, "x.csv", content, read_csv)


@given(damaged(XML), damaged(SENTENCES))
@example(XML.replace(b">7<", b">&#0;<"), SENTENCES)
@example(XML.replace(b"<width>9", b"<width>\xc2\xb2"), SENTENCES)
def test_entities(folder: Path, boxes: bytes, sentences: bytes):
    for name, content in {"Annotations/a.xml": boxes, "Sentences/a.txt": sentences}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    record = Record("a.jpg", folder / "a.jpg", ["A dog"], "val")
    read_or_refused(lambda: read_entities(folder, [record]))
    said = ["a", "big", "dog", "sees", "the", "sea"]
    for mention in record.regions.mentions(said) if record.regions else ():
        assert said[mention.index] in ("dog", "sea") and all(len(b) == 4 for b in mention.boxes)


def test_entities_that_unfold_without_end_are_refused_in_no_time(folder: Path):
    """A billion laughs: expat, which parses, bounds how much a file may grow."""
    lines = ["<!ENTITY a0 'ha'>"]
    lines += [f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12)]
    laughs = f"<!DOCTYPE x [{''.join(lines)}]><annotation>&a11;</annotation>"
    (folder / "Annotations").mkdir(exist_ok=True)
    (folder / "Sentences").mkdir(exist_ok=True)
    (folder / "Annotations" / "a.xml").write_text(laughs)
    record = Record("a.jpg", folder / "a.jpg", ["A dog"], "val")
    with pytest.raises(ValueError, match=r"not XML.*amplification"):
        read_entities(folder, [record])


def shard(image: str = "jpg") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number in range(2):
            texts = {image: b"", "json": b'{"captions": ["A dog", "A cat"]}', "txt": b"A bird\n"}
            for suffix, content in texts.items():
                info = tarfile.TarInfo(f"{number}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


SHARD = shard()


@given(damaged(SHARD[:6144]))
@example(shard("jp\n"))
def test_webdataset(folder: Path, content: bytes):
    (folder / "x.tar").write_bytes(content)
    collection = read_or_refused(lambda: read_webdataset(folder, {"train": "x.tar"}))
    for record in collection.records if collection else ():
        assert record.captions and all(words(caption) for caption in record.captions)
        with record.image.open() as file:
            assert len(file.read()) <= len(content)


@given(json_of(RESULTS))
@example(as_json(RESULTS).replace(b"a.jpg", b"\\n"))
def test_results(folder: Path, content: bytes):
    (folder / "r.json").write_bytes(content)
    records = [Record(name, folder / name, ["A dog"], "val") for name in NAMES]
    captions = read_or_refused(lambda: read_results(folder / "r.json", records))
    assert captions is None or len(captions) == len(records)
