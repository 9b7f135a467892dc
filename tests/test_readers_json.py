"""The JSON data sets are read; whatever is wrong in them is left out and named."""

from __future__ import annotations

import json

import pytest

from captioner.data.readers import read_coco, read_karpathy


def write(path, content=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


def found(collection):
    return {r.image_id: (r.split, r.captions) for r in collection.records}


def one_problem(collection, *parts):
    assert len(collection.problems) == 1
    assert all(part in collection.problems[0] for part in parts), collection.problems
    return True


# Karpathy's JSON


def entry(name, split, *raws, **more):
    return {"filename": name, "split": split, "sentences": [{"raw": raw} for raw in raws], **more}


def karpathy(folder, *entries, **options):
    for name in ["a.jpg", "b.jpg", "c.jpg", "val2014/d.jpg"]:
        write(folder / "images" / name)
    file = write(folder / "dataset.json", {"images": [*entries], "dataset": "coco"})
    return read_karpathy(file, folder / "images", **options)


def test_karpathy(tmp_path):
    nested = entry("d.jpg", "restval", " A fox.\n", filepath="val2014", cocoid=42)
    entries = [entry("a.jpg", "train", "A dog.", "Dog!"), entry("b.jpg", "test", "A cat."), nested]
    collection = karpathy(tmp_path, *entries)
    assert found(collection) == {
        "a.jpg": ("train", ["A dog.", "Dog!"]),
        "b.jpg": ("test", ["A cat."]),
        "42": ("train", ["A fox."]),
    }
    assert collection.problems == []
    assert collection.records[2].image == tmp_path / "images" / "val2014" / "d.jpg"
    assert karpathy(tmp_path, *entries, restval="restval").split("restval")[0].image_id == "42"
    assert "42" not in found(karpathy(tmp_path, *entries, restval="none"))


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ("text", "images[1]: not an object"),
        ({"split": "train", "sentences": []}, "images[1]: needs a filename"),
        ({"filename": "b.jpg", "sentences": []}, "images[1]: needs a filename, a split"),
        ({"filename": "b.jpg", "split": "train"}, "images[1]: needs a filename, a split"),
        (entry("gone.jpg", "val", "A."), "images[1]: no image file"),
        (entry("d.jpg", "val", "A.", filepath=7), "images[1]: no image file"),
        (entry("a.jpg", "train", "Twice."), "images[1]: image a.jpg for the second time"),
        (entry("b.jpg", "val"), "image b.jpg has no captions"),
        (entry("b.jpg", "val", "A cat.", ""), "images[1].sentences[1]: a caption of image b.jpg"),
        (entry("b.jpg", "val", "A cat.", None), "images[1].sentences[1]: a caption of"),
    ],
)
def test_karpathy_names_what_it_leaves_out(tmp_path, bad, named):
    collection = karpathy(tmp_path, entry("a.jpg", "train", "A dog."), bad)
    assert one_problem(collection, f"{tmp_path}", named)
    assert found(collection).pop("a.jpg") == ("train", ["A dog."])
    assert found(collection).get("b.jpg", ("val", ["A cat."])) == ("val", ["A cat."])


def test_karpathy_leak(tmp_path):
    entries = [
        entry("a.jpg", "train", "A."),
        entry("a.jpg", "test", "B."),
        entry("b.jpg", "val", "C."),
    ]
    collection = karpathy(tmp_path, *entries, entry("a.jpg", "train", "D."))
    assert one_problem(collection, "images[1]: image a.jpg leaks, it is in train and test")
    assert found(collection) == {"b.jpg": ("val", ["C."])}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [\n  {"filename" "a.jpg"}]}', r"dataset.json:2:15: not JSON: Expecting ':'"),
        ("", r"dataset.json:1:1: not JSON"),
        ("[" * 100_000, r"dataset.json: not JSON"),
        ([], r"dataset.json: needs a JSON object with a list 'images'"),
        ({"images": {}}, r"dataset.json: needs a JSON object with a list 'images'"),
        ({"images": []}, r"dataset.json: no image with captions$"),
        ({"images": [5, 6]}, r"no image with captions; 2 problems: .*images\[0\]: not an object"),
    ],
)
def test_json_that_is_no_data_set(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_karpathy(write(tmp_path / "dataset.json", content), tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_json_and_images(tmp_path):
    with pytest.raises(ValueError, match=r"none.json: no such file"):
        read_karpathy(tmp_path / "none.json", tmp_path)
    with pytest.raises(ValueError, match=r"nowhere: no such folder"):
        read_karpathy(tmp_path / "none.json", tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r": is a directory"):
        read_karpathy(tmp_path, tmp_path)


# COCO


def coco(folder, images, annotations, split="train"):
    write(folder / split / "1.jpg")
    write(folder / split / "2.jpg")
    content = {
        "images": [{"id": i, "file_name": name} for i, name in images],
        "annotations": [{"id": 0, "image_id": i, "caption": caption} for i, caption in annotations],
    }
    return write(folder / f"captions_{split}.json", content), folder / split


def test_coco(tmp_path):
    train = coco(
        tmp_path, [(2, "2.jpg"), (1, "1.jpg")], [(1, "A dog.\n"), (2, "A cat."), (1, "Dog!")]
    )
    val = coco(tmp_path, [(9, "1.jpg")], [(9, "A fox.")], "val")
    collection = read_coco({"train": train[0], "val": val[0]}, {"train": train[1], "val": val[1]})
    assert found(collection) == {
        "2": ("train", ["A cat."]),
        "1": ("train", ["A dog.", "Dog!"]),
        "9": ("val", ["A fox."]),
    }
    assert collection.problems == []


@pytest.mark.parametrize(
    ("images", "annotations", "named"),
    [
        ([(7, "gone.jpg")], [(7, "A.")], "images[1]: no image file"),
        ([(7, None)], [], "images[1]: needs an id and a file_name"),
        ([(None, "2.jpg")], [], "images[1]: needs an id and a file_name"),
        ([(1, "1.jpg")], [], "images[1]: image 1 for the second time"),
        ([(2, "2.jpg")], [], "image 2 has no captions"),
        ([], [(8, "A.")], "annotations[1]: a caption of image 8, which is not listed"),
        ([], [(1, "  ")], "annotations[1]: a caption of image 1 without words"),
        ([], [(1, 5)], "annotations[1]: a caption of image 1 without words"),
    ],
)
def test_coco_names_what_it_leaves_out(tmp_path, images, annotations, named):
    file, folder = coco(tmp_path, [(1, "1.jpg"), *images], [(1, "A dog."), *annotations])
    collection = read_coco({"train": file}, {"train": folder})
    assert one_problem(collection, str(file), named)
    assert found(collection) == {"1": ("train", ["A dog."])}


def test_coco_refuses_what_it_cannot_read(tmp_path):
    file, folder = coco(tmp_path, [(1, "1.jpg")], [(1, "A dog.")])
    with pytest.raises(ValueError, match="same splits, at least one, not train and val"):
        read_coco({"train": file}, {"val": folder})
    with pytest.raises(ValueError, match=r"no image with captions; 1 problems: .*leaks"):
        read_coco({"train": file, "val": file}, {"train": folder, "val": folder})
    write(file, {"images": []})
    with pytest.raises(ValueError, match="a list 'annotations'"):
        read_coco({"train": file}, {"train": folder})
