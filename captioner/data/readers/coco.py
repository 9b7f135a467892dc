"""COCO captions in their own files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from captioner.data.readers.files import existing_folder, json_of
from captioner.data.readers.reading import Reading
from captioner.data.records import Collection


def read_coco(
    annotations: Mapping[str, Path | str], images: Mapping[str, Path | str]
) -> Collection:
    """Per split a `captions_*.json` and the folder of its images (Chen et al. 2015).

    An image's id is COCO's, as a string.
    """
    if not annotations or annotations.keys() != images.keys():
        raise ValueError(
            "annotations and images must name the same splits, at least one, not"
            f" {', '.join(annotations) or 'none'} and {', '.join(images) or 'none'}"
        )
    reading = Reading()
    for split, path in annotations.items():
        file, folder = Path(path), existing_folder(images[split])
        content = json_of(file)
        for where, entry in reading.entries(content, "images", file):
            image_id, name = entry.get("id"), entry.get("file_name")
            if image_id is None or not isinstance(name, str):
                reading.problems.append(f"{where}: needs an id and a file_name")
            else:
                reading.image(str(image_id), folder / name, split, where)
        for where, entry in reading.entries(content, "annotations", file):
            reading.caption(str(entry.get("image_id")), entry.get("caption"), where)
    return reading.collection(", ".join(map(str, annotations.values())))
