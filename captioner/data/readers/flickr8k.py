"""Flickr8k in its own files (Hodosh, Young, Hockenmaier 2013)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from captioner.data.readers.files import existing_folder, files_in, lines_of
from captioner.data.readers.reading import Reading
from captioner.data.records import Collection

SPLITS = {"train": "train", "val": "dev", "test": "test"}  # ours: the published name
IMAGE_FOLDERS = ("images", "Flicker8k_Dataset", "Flickr8k_Dataset", "Images", ".")


class _Listed(NamedTuple):
    name: str
    split: str
    where: str


def read_flickr8k(root: Path | str, images: Path | str | None = None) -> Collection:
    """Splits train, val (published as dev) and test; an image's id is its file name.

    `root`, or `Flickr8k_text/` in it, holds `Flickr8k.token.txt` and the lists
    `Flickr_8k.{train,dev,test}Images.txt`, of which only train's is needed. The folder of images
    is found under its usual names where `images` does not give it. Captions of images in no split
    (the published file has about a hundred such images) are passed over.
    """
    root = existing_folder(root)
    listed = _listed(root)
    names = {image.name for image in listed}
    folder = existing_folder(images) if images is not None else _image_folder(root, names)

    reading = Reading()
    for name, split, where in listed:
        reading.image(name, folder / name, split, where)
    keys = set()
    for where, line in lines_of(_text_file(root, "Flickr8k.token.txt")):
        key, tab, caption = line.partition("\t")
        name = key.rpartition("#")[0]
        if not (name and tab):
            reading.problems.append(f"{where}: not `image#number<TAB>caption`: {line[:60]!r}")
        elif key in keys:
            reading.problems.append(f"{where}: {key} for the second time")
        elif name in names:
            reading.caption(name, caption, where)
        keys.add(key)
    return reading.collection(root)


def _listed(root: Path) -> list[_Listed]:
    listed = []
    for split, published in SPLITS.items():
        file = _text_file(root, f"Flickr_8k.{published}Images.txt")
        if split == "train" or file.exists():
            listed += [_Listed(name.strip(), split, where) for where, name in lines_of(file)]
    return listed


def _text_file(root: Path, name: str) -> Path:
    """Where the file is, or would be."""
    below = root / "Flickr8k_text" / name
    return below if below.exists() else root / name


def _image_folder(root: Path, names: set[str]) -> Path:
    for folder in IMAGE_FOLDERS:
        if not names.isdisjoint(files_in(root / folder)):
            return root / folder
    raise ValueError(f"{root}: none of the listed images there, in {', '.join(IMAGE_FOLDERS)}")
