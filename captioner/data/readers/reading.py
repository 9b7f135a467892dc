"""What every reader does with the images and captions that it finds in its files."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from captioner.data.readers.files import files_in, in_one_line
from captioner.data.records import Collection, Record
from captioner.data.tar import TarMember
from captioner.vocabulary import words


@dataclass
class Reading:
    """What a reader has found so far, and a line for each thing that it can't use.

    `where` is a place in a file, to begin such a line with.
    """

    records: dict[str, Record] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)  # already named; their captions need no line
    problems: list[str] = field(default_factory=list)
    # One listing per folder, not a stat per image: data sets have up to 120,000 images.
    files_in: Callable[[Path], set[str]] = field(
        default_factory=lambda: functools.cache(files_in), repr=False
    )

    def holds(self, image_id: str, split: str) -> bool:
        return image_id in self.records and self.records[image_id].split == split

    def image(self, image_id: str, path: Path | TarMember, split: str, where: str) -> bool:
        """Takes in an image that is new; says whether it did. A member of a tar is there."""
        if image_id in self.left_out:
            return False
        if image_id not in self.records:
            if isinstance(path, TarMember) or path.name in self.files_in(path.parent):
                self.records[image_id] = Record(image_id, path, [], split)
                return True
            self._leave_out(image_id, f"{where}: no image file {path}")
        elif self.holds(image_id, split):
            self.problems.append(f"{where}: image {image_id} for the second time")
        else:
            both = f"{self.records[image_id].split} and {split}"
            self._leave_out(image_id, f"{where}: image {image_id} leaks, it is in {both}")
        return False

    def caption(self, image_id: str, caption: Any, where: str) -> None:
        """Adds a caption to an image that `image` took in."""
        if image_id in self.left_out:
            return
        if image_id not in self.records:
            self.problems.append(f"{where}: a caption of image {image_id}, which is not listed")
        elif not isinstance(caption, str) or not words(caption):
            self.problems.append(f"{where}: a caption of image {image_id} without words")
        elif "\ufffd" in caption:  # put there by text_of
            self.problems.append(f"{where}: a caption of image {image_id} that is not UTF-8")
        else:
            self.records[image_id].captions.append(caption.strip())

    def entries(self, content: Any, key: str, file: Path) -> Iterator[tuple[str, dict]]:
        """The objects of a list in a JSON file, each behind its place, `file: key[index]`."""
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{file}: needs a JSON object with a list {key!r}")
        for i, entry in enumerate(content[key]):
            if isinstance(entry, dict):
                yield f"{file}: {key}[{i}]", entry
            else:
                self.problems.append(f"{file}: {key}[{i}]: not an object")

    def collection(self, source: Path | str) -> Collection:
        """The images with captions. Raises ValueError when there are none."""
        for image_id, record in self.records.items():
            if not record.captions:
                self.problems.append(f"{source}: image {image_id} has no captions")
        records = [record for record in self.records.values() if record.captions]
        problems = [in_one_line(problem) for problem in self.problems]
        if not records:
            first = f"; {len(problems)} problems: {problems[0]}" if problems else ""
            raise ValueError(f"{source}: no image with captions{first}")
        return Collection(records, problems)

    def _leave_out(self, image_id: str, problem: str) -> None:
        self.records.pop(image_id, None)
        self.left_out.add(image_id)
        self.problems.append(problem)
