"""Flickr8k's files and tables are read; whatever is wrong in them is left out and named."""

from __future__ import annotations

import pytest

from captioner.data.readers import read_csv, read_flickr8k


def write(path, content=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    return path


def found(collection):
    return {r.image_id: (r.split, r.captions) for r in collection.records}


def one_problem(collection, *parts):
    assert len(collection.problems) == 1
    assert all(part in collection.problems[0] for part in parts), collection.problems
    return True


# Flickr8k


@pytest.fixture
def flickr8k(tmp_path):
    for name in ["a.jpg", "b.jpg", "c.jpg"]:
        write(tmp_path / "images" / name)
    write(tmp_path / "Flickr_8k.trainImages.txt", "b.jpg\na.jpg\n")
    write(tmp_path / "Flickr_8k.devImages.txt", "c.jpg\n")
    tokens = "a.jpg#0\tA dog .\na.jpg#1\tOne dog .\nb.jpg#0\tA cat .\nc.jpg#0\tA bird .\n"
    # As published: a malformed id, and images that no split lists.
    tokens += "2258277193_586949ec62.jpg.1#0\tA man .\nunlisted.jpg#0\tA leak .\n"
    write(tmp_path / "Flickr8k.token.txt", tokens)
    return tmp_path


FLICKR8K = {
    "b.jpg": ("train", ["A cat ."]),
    "a.jpg": ("train", ["A dog .", "One dog ."]),
    "c.jpg": ("val", ["A bird ."]),
}


def test_flickr8k(flickr8k):
    collection = read_flickr8k(flickr8k)
    assert found(collection) == FLICKR8K and collection.problems == []
    assert list(found(collection)) == ["b.jpg", "a.jpg", "c.jpg"]
    assert all(record.image.is_file() for record in collection.records)


@pytest.mark.parametrize("folder", ["Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "."])
def test_flickr8k_in_its_usual_folders(flickr8k, folder):
    (flickr8k / "Flickr8k_text").mkdir()
    for file in list(flickr8k.glob("*.txt")):
        file.rename(flickr8k / "Flickr8k_text" / file.name)
    write(flickr8k / "Flickr8k_text" / "Flickr_8k.testImages.txt", "d.jpg\n")
    with (flickr8k / "Flickr8k_text" / "Flickr8k.token.txt").open("a") as tokens:
        tokens.write("d.jpg#0\tA fox .\n")
    for name in ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]:
        write(flickr8k / folder / name)
        (flickr8k / "images" / name).unlink(missing_ok=True)
    assert found(read_flickr8k(str(flickr8k))) == {**FLICKR8K, "d.jpg": ("test", ["A fox ."])}
    assert found(read_flickr8k(flickr8k, images=flickr8k / folder)).keys() >= FLICKR8K.keys()


@pytest.mark.parametrize(
    ("file", "line", "named", "lost"),
    [
        ("Flickr8k.token.txt", "a.jpg#2 no tab", "token.txt:7: not `image#number", None),
        ("Flickr8k.token.txt", "a.jpg\tno number", "token.txt:7: not `image#number", None),
        ("Flickr8k.token.txt", "a.jpg#0\tTwice .", "token.txt:7: a.jpg#0 for the second", None),
        (
            "Flickr8k.token.txt",
            "a.jpg#2\t .",
            "token.txt:7: a caption of image a.jpg without",
            None,
        ),
        ("Flickr8k.token.txt", "a.jpg#2\tcaf\udce9", "token.txt:7: a caption of image a.jpg", None),
        ("Flickr_8k.devImages.txt", "gone.jpg", "devImages.txt:2: no image file", None),
        ("Flickr_8k.trainImages.txt", "a.jpg", "trainImages.txt:3: image a.jpg for the", None),
        ("Flickr_8k.devImages.txt", "a.jpg", "image a.jpg leaks, it is in train and val", "a.jpg"),
    ],
)
def test_flickr8k_names_what_it_leaves_out(flickr8k, file, line, named, lost):
    path = flickr8k / file
    write(path, path.read_text() + line + "\n")
    collection = read_flickr8k(flickr8k)
    assert one_problem(collection, named)
    assert found(collection) == {k: v for k, v in FLICKR8K.items() if k != lost}


def test_flickr8k_images_without_captions_or_file(flickr8k):
    path = flickr8k / "Flickr8k.token.txt"
    write(path, path.read_text().replace("b.jpg#0", "z.jpg#0"))
    assert one_problem(read_flickr8k(flickr8k), "image b.jpg has no captions")
    (flickr8k / "images" / "b.jpg").unlink()
    collection = read_flickr8k(flickr8k)
    assert one_problem(collection, "trainImages.txt:1: no image file", "b.jpg")
    assert "b.jpg" not in found(collection)


@pytest.mark.parametrize("missing", ["Flickr8k.token.txt", "Flickr_8k.trainImages.txt"])
def test_flickr8k_needs_its_files(flickr8k, missing):
    (flickr8k / missing).unlink()
    with pytest.raises(ValueError, match=f"{missing}: no such file"):
        read_flickr8k(flickr8k)


def test_flickr8k_needs_images(flickr8k):
    for image in (flickr8k / "images").iterdir():
        image.unlink()
    with pytest.raises(ValueError, match="none of the listed images"):
        read_flickr8k(flickr8k)
    with pytest.raises(ValueError, match="no such folder"):
        read_flickr8k(flickr8k / "nowhere")


# CSV


def table(folder, text, **options):
    for name in ["a.jpg", "b.jpg", "below/c.jpg"]:
        write(folder / name)
    return read_csv(write(folder / "table.csv", text), **options)


def test_csv(tmp_path):
    text = '\ufeffsplit,Caption ,image,n\r\ntrain,"A dog, two",a.jpg,1\r\n\r\nval,A cat,b.jpg,2\r\n'
    text += 'train, Dog! ,a.jpg,3\r\ntest,"Said ""fox""\r\ntwice",below/c.jpg,4'
    collection = table(tmp_path, text)
    assert found(collection) == {
        "a.jpg": ("train", ["A dog, two", "Dog!"]),
        "b.jpg": ("val", ["A cat"]),
        "below/c.jpg": ("test", ['Said "fox"\ntwice']),
    }
    assert collection.problems == []
    moved = write(tmp_path / "elsewhere" / "table.csv", text)
    assert found(read_csv(moved, images=tmp_path)) == found(collection)


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("b.jpg,A cat, black,val", "table.csv:3: 4 cells under 3 columns"),
        ("b.jpg", "table.csv:3: 1 cells under 3 columns"),
        ('b.jpg,"A" cat,val', "table.csv:3: ',' expected after '\"'"),
        ('b.jpg,"A cat,val', "table.csv:3: "),
        ("gone.jpg,A cat,val", "table.csv:3: no image file"),
        ("b.jpg,,val", "table.csv:3: a caption of image b.jpg without words"),
        (",A cat,val", "table.csv:3: the image or the split is empty"),
        ("b.jpg,A cat,", "table.csv:3: the image or the split is empty"),
        ("b.jpg,caf\udce9,val", "table.csv:3: a caption of image b.jpg that is not UTF-8"),
    ],
)
def test_csv_names_what_it_leaves_out(tmp_path, row, named):
    text = f"image,caption,split\na.jpg,A dog,train\n{row}\n"
    collection = table(tmp_path, text)
    assert named in collection.problems[0]
    assert found(collection) == {"a.jpg": ("train", ["A dog"])}


def test_csv_goes_on_after_a_stray_quote(tmp_path):
    text = 'image,caption,split\na.jpg,"A dog,train\nb.jpg,"A cat",val\na.jpg,Dog,train\n'
    collection = table(tmp_path, text)
    assert one_problem(collection, "table.csv:2: ")
    assert found(collection) == {"a.jpg": ("train", ["Dog"])}


def test_csv_leak(tmp_path):
    rows = ["a.jpg,A dog,train", "b.jpg,A cat,val", "a.jpg,Dog,val", "a.jpg,A dog!,train"]
    collection = table(tmp_path, "\n".join(["image,caption,split", *rows]))
    assert one_problem(collection, "table.csv:4: image a.jpg leaks, it is in train and val")
    assert found(collection) == {"b.jpg": ("val", ["A cat"])}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"table.csv:1: the header must name .* it is ''"),
        ("a.jpg,A dog\n", r"table.csv:1: the header must name .* it is 'a.jpg,A dog'"),
        ("image;caption\na.jpg;A dog\n", r"it is 'image;caption'"),
        ("image,caption,caption\n", r"the header must name"),
        ("image,caption\n", r"table.csv: no image with captions$"),
        (
            "image,caption\nz.jpg,A\n",
            r"no image with captions; 1 problems: .*table.csv:2: no image",
        ),
    ],
)
def test_csv_that_is_no_data_set(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        table(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_csv_refuses_what_it_cannot_do(tmp_path):
    with pytest.raises(ValueError, match=r"none.csv: no such file"):
        read_csv(tmp_path / "none.csv")
    for fraction in (0, 1, float("nan")):
        with pytest.raises(ValueError, match=r"val_fraction is .*between 0 and 1"):
            read_csv(tmp_path / "none.csv", val_fraction=fraction)


def splits_of(folder, count, fraction=0.1):
    for i in range(count):
        write(folder / f"{i}.jpg")
    rows = [f"{i}.jpg,Caption {k}" for k in range(2) for i in range(count)]
    collection = read_csv(
        write(folder / "t.csv", "\n".join(["image,caption", *rows])), val_fraction=fraction
    )
    return {record.image_id: record.split for record in collection.records}


def test_csv_without_splits_sends_a_share_to_val(tmp_path):
    few, many = splits_of(tmp_path, 300), splits_of(tmp_path, 600)
    share = list(many.values()).count("val") / 600
    assert 0.06 < share < 0.14
    assert splits_of(tmp_path, 600) == many
    moved = [name for name, split in few.items() if many[name] != split]
    assert len(moved) <= 2  # at most the ends, never the rest


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("fraction", [1e-9, 0.5, 1 - 1e-9])
def test_csv_never_leaves_a_split_empty(tmp_path, count, fraction):
    assert set(splits_of(tmp_path, count, fraction).values()) == {"train", "val"}


def test_csv_with_one_image_trains_on_it(tmp_path):
    assert splits_of(tmp_path, 1) == {"0.jpg": "train"}


def test_one_listing_per_folder(tmp_path, monkeypatch):
    import captioner.data.readers.files as files

    listed, scandir = [], files.os.scandir
    monkeypatch.setattr(files.os, "scandir", lambda path: listed.append(path) or scandir(path))
    splits_of(tmp_path, 50)
    assert listed == [tmp_path]
