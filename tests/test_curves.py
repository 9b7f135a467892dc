"""A plot of curves is a picture, also where a point is not known."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from captioner.visualize.curves import save_curves

X = (1, 2, 4)


def drawn(path: Path, **curves) -> bytes:
    save_curves("words", {"ms": {n: (X, y) for n, y in curves.items()}, "MB": {}}, path)
    with Image.open(path) as picture:
        assert picture.width > picture.height > 200
        return picture.tobytes()


def test_what_is_drawn_depends_on_every_point(tmp_path: Path):
    one = drawn(tmp_path / "a.png", training=(1, 2, 3), search=(2, 2, 2))
    assert one == drawn(tmp_path / "b.png", training=(1, 2, 3), search=(2, 2, 2))
    assert one != drawn(tmp_path / "c.png", training=(1, 2, 3), search=(2, 2, 1))
    assert one != drawn(tmp_path / "d.png", training=(1, None, 3), search=(2, 2, 2))
