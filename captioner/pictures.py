"""Attention of captions, drawn into a folder: the paper's figure, a page to explore, and arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from captioner.captioner import Captioner, Source
from captioner.data.images import open_image
from captioner.visualize.arrays import save_arrays
from captioner.visualize.page import save_page
from captioner.visualize.panels import save_panels

VIEW = 448  # pixels of the picture that attention is drawn over


def draw(captioner: Captioner, name: str, source: Source, out: Path) -> list[Path]:
    """Writes `<name>.png`, `.html` and `.npz` of one picture's caption; returns their paths.

    Raises ImageError for a picture that can't be read.
    """
    caption, shown = captioner(source), view(captioner, source)
    paths = [out / f"{name}{suffix}" for suffix in (".png", ".html", ".npz")]
    save_panels(caption, shown, paths[0])
    save_page(caption, shown, paths[1])
    save_arrays(caption, paths[2])
    return paths


def names(pictures: Iterable[str | Path]) -> list[str]:
    """A name for each picture's drawings: its stem, or its whole path where stems collide."""
    paths = [Path(picture) for picture in pictures]
    counts = Counter(path.stem for path in paths)
    return [
        path.stem
        if counts[path.stem] == 1
        else "-".join(part for part in path.parts if part != "/")
        for path in paths
    ]


def view(captioner: Captioner, source: Source) -> Image.Image:
    """Exactly the square of a picture that the encoder saw, sharp enough to look at."""
    picture = source.draw(VIEW) if hasattr(source, "draw") else open_image(source)
    return captioner.transform.view(picture, VIEW)
