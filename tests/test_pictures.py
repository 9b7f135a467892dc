"""Drawings have names of their own, and lie over exactly what the encoder saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import SIDE, build_tiny, scenes, write_picture

from captioner.captioner import Captioner
from captioner.config import SearchOptions
from captioner.data.images import ImageError, Transform, open_image
from captioner.pictures import VIEWS, draw, draw_all, names, view


@pytest.fixture
def captioner() -> Captioner:
    tiny = build_tiny()
    transform = Transform(SIDE, "crop")
    return Captioner(tiny.model, tiny.vocabulary, transform, SearchOptions(max_length=3))


def test_a_drawing_is_named_by_its_picture_and_no_two_share_a_name():
    paths = [Path(p) for p in ("x/1.png", "x/1.jpg", "y/1.png", "/abs/1.png", "y/two words.png")]
    found = names(paths)
    assert found[-1] == "two words"
    assert len(set(found)) == len(paths)
    assert not [name for name in found if "/" in name or name.startswith((".", "-"))]


def test_no_drawing_takes_the_name_of_the_page_of_them_all():
    assert "index" not in names([Path("x/index.jpg"), Path("y/a.jpg")])


def test_three_files_of_each_picture(captioner: Captioner, tmp_path: Path):
    paths = draw(captioner, "a", write_picture(tmp_path / "in" / "b.png"), tmp_path / "out")
    assert [path.name for path in paths] == ["a.png", "a.html", "a.npz"]
    assert all(path.stat().st_size > 500 for path in paths)


@pytest.mark.parametrize("kind", VIEWS)
def test_each_view_writes_its_files_past_a_damaged_picture(captioner, tmp_path: Path, kind: str):
    (tmp_path / "b.png").write_bytes(b"no picture")
    good = write_picture(tmp_path / "in" / "a.png")
    pictures = [("a", good), ("b", tmp_path / "b.png"), ("c", scenes()[0].image)]
    first, error, last, *index = draw_all(captioner, pictures, tmp_path / "out", kind)
    assert isinstance(error, ImageError)
    written = [tmp_path / "out" / f"{name}{end}" for name in "ac" for end in VIEWS[kind]]
    assert [*first, *last] == written
    assert index == ([[tmp_path / "out" / "index.html"]] if kind == "attention" else [])
    assert set((tmp_path / "out").iterdir()) == {*written, *(p for paths in index for p in paths)}


def test_one_picture_needs_no_page_of_them_all(captioner: Captioner, tmp_path: Path):
    only = [("a", scenes()[0].image)]
    assert len(list(draw_all(captioner, only, tmp_path, "attention"))) == 1


def test_a_damaged_picture_leaves_nothing(captioner: Captioner, tmp_path: Path):
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"b\.png"):
        draw(captioner, "a", tmp_path / "b.png", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_view_is_the_encoders_square_and_sharper(captioner: Captioner, tmp_path: Path):
    path, scene = write_picture(tmp_path / "wide.png", size=(24, 12)), scenes()[0].image
    open_image(path).resize((960, 480)).save(path)  # coarse, so that a shifted view would show
    for source in (path, scene):
        shown, seen = view(captioner, source), captioner.transform.view(open_image(source))
        assert shown.width == shown.height > seen.width == SIDE
        small = np.asarray(shown.resize(seen.size, reducing_gap=None), float)
        assert np.abs(small - np.asarray(seen, float)).mean() < 8  # of 255 grey levels
