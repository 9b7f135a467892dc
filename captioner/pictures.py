"""Captions drawn into a folder: what was looked at, what the gates did, a walk along the words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image

from captioner.caption import Source
from captioner.captioner import Captioner
from captioner.data.images import ImageError, open_image
from captioner.visualize.arrays import save_arrays
from captioner.visualize.lens import save_lens
from captioner.visualize.page import Gallery, save_page
from captioner.visualize.panels import save_panels
from captioner.visualize.walk import save_walk

VIEW = 448  # pixels of the picture that attention is drawn over


VIEWS = {  # what is drawn of a caption, by the end of its file's name
    "attention": {
        ".png": save_panels,
        ".html": save_page,
        ".npz": lambda caption, _, path: save_arrays(caption, path),
    },
    "gates": {".gates.png": save_lens},
    "walk": {".gif": save_walk},
}


def draw(
    captioner: Captioner,
    name: str,
    source: Source,
    out: Path,
    kind: str = "attention",
    gallery: Gallery | None = None,
) -> list[Path]:
    """Writes the files of one of `VIEWS` for a picture, named `<name>`; returns their paths.

    `gallery`, where given, is given the caption too. Raises ImageError for a picture that can't be
    read.
    """
    caption, shown = captioner(source), view(captioner, source)
    if not isinstance(source, (str, Path)):  # such as a scene, which has no path
        caption = replace(caption, image=name)
    paths = {out / f"{name}{end}": save for end, save in VIEWS[kind].items()}
    for path, save in paths.items():
        save(caption, shown, path)
    if gallery is not None:
        gallery.add(caption, shown)
    return list(paths)


def draw_all(
    captioner: Captioner, pictures: Iterable[tuple[str, Source]], out: Path, kind: str
) -> Iterator[list[Path] | ImageError]:
    """Draws each named picture; yields its paths, or its error where it can't be read.

    At the end, of the attention of several, comes the page `index.html` with all of them.
    """
    gallery = Gallery() if kind == "attention" else None
    for name, source in pictures:
        try:
            yield draw(captioner, name, source, out, kind, gallery)
        except ImageError as error:
            yield error
    if gallery is not None and gallery.added > 1:
        gallery.save(out / "index.html")
        yield [out / "index.html"]


def names(pictures: Iterable[str | Path]) -> list[str]:
    """A name for each picture's drawings: its stem, or its whole path where stems collide.

    `index` is taken, by the page of them all.
    """
    paths = [Path(picture) for picture in pictures]
    counts = Counter(["index", *(path.stem for path in paths)])
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
