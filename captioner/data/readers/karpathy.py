"""The JSON files of Karpathy's splits of Flickr8k, Flickr30k and COCO."""

from __future__ import annotations

from pathlib import Path

from captioner.data.readers.files import existing_folder, json_of
from captioner.data.readers.reading import Reading
from captioner.data.records import Collection


def read_karpathy(file: Path | str, images: Path | str, restval: str = "train") -> Collection:
    """`dataset_{flickr8k,flickr30k,coco}.json` (Karpathy & Fei-Fei, CVPR 2015).

    An image lies at `images`/filepath/filename, filepath being optional; its id is its cocoid
    where it has one, else its filename. `restval` is the split that COCO's restval joins, as is
    usual train; its own name keeps it apart, "none" leaves it out.
    """
    file, folder = Path(file), existing_folder(images)
    reading = Reading()
    for where, entry in reading.entries(json_of(file), "images", file):
        name, split, sentences = (entry.get(key) for key in ("filename", "split", "sentences"))
        if not (_filled(name) and _filled(split) and isinstance(sentences, list)):
            reading.problems.append(f"{where}: needs a filename, a split and a list of sentences")
            continue
        split = restval if split == "restval" else split
        path = folder / str(entry.get("filepath") or "") / name
        cocoid = entry.get("cocoid")
        image_id = name if cocoid in (None, "") else str(cocoid)
        if split != "none" and reading.image(image_id, path, split, where):
            for i, sentence in enumerate(sentences):
                raw = sentence.get("raw") if isinstance(sentence, dict) else None
                reading.caption(image_id, raw, f"{where}.sentences[{i}]")
    return reading.collection(file)


def _filled(value: object) -> bool:
    return isinstance(value, str) and value != ""
