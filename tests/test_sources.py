"""Pictures are found, and read, wherever they are kept: files, tars, tables."""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from tiny import write_picture

from captioner.data.images import ImageError, open_image
from captioner.data.sources import find_sources


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return [write_picture(tmp_path / "photos" / f"{i}.png", i) for i in range(5)]


def same(source: object, picture: Path) -> bool:
    with Image.open(picture) as expected:
        return open_image(source).tobytes() == expected.tobytes()


def test_files_are_found_as_before(pictures: list[Path]):
    assert find_sources(str(pictures[0].parent)) == pictures


def test_pictures_of_several_tars_are_read_in_place(pictures: list[Path], tmp_path: Path):
    for shard, some in (("a", pictures[:3]), ("b", pictures[3:])):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for picture in some:
                tar.add(picture, picture.name)
                tar.addfile(tarfile.TarInfo(f"{picture.stem}.json"), io.BytesIO())
    found = find_sources(f"{tmp_path}/{{a,b}}.tar")
    assert [str(each) for each in found[2:4]] == [
        f"{tmp_path}/a.tar:2.png",
        f"{tmp_path}/b.tar:3.png",
    ]
    assert len(found) == 5 and all(map(same, found, pictures))
    with pytest.raises(ValueError, match="no such shards"):
        find_sources(f"{tmp_path}/c*.tar")


def test_tars_without_pictures_are_told(tmp_path: Path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("7.json"), io.BytesIO())
    with pytest.raises(ValueError, match=r"no images in .*a\.tar"):
        find_sources(str(tmp_path / "a.tar"))


@pytest.mark.parametrize("form", ["bytes", "objects", "paths"])
def test_pictures_of_tables_are_read_in_place(form: str, pictures: list[Path], tmp_path: Path):
    arrow = pytest.importorskip("pyarrow", reason="needs captioner[ray]")
    from pyarrow import parquet

    contents = [picture.read_bytes() for picture in pictures]
    values = {
        "bytes": contents,
        "objects": [{"bytes": each, "path": "x"} for each in contents],  # Hugging Face's data sets
        "paths": [str(picture.relative_to(tmp_path)) for picture in pictures],
    }[form]
    table = arrow.table({"number": list(range(5)), "image": values})
    for part, rows in (("a", table[:3]), ("b", table[3:])):
        parquet.write_table(rows, tmp_path / f"{part}.parquet", row_group_size=2)
    found = find_sources(f"{tmp_path}/*.parquet")
    assert len(found) == 5 and all(map(same, found, pictures))
    if form == "paths":
        assert found == pictures
    else:
        assert [str(each) for each in found[2:]] == [
            f"{tmp_path}/{name}" for name in ("a.parquet:2", "b.parquet:0", "b.parquet:1")
        ]


def test_what_is_wrong_with_a_table_or_a_picture_in_it_is_named(pictures, tmp_path: Path):
    arrow = pytest.importorskip("pyarrow", reason="needs captioner[ray]")
    from pyarrow import parquet

    good = pictures[0].read_bytes()
    parquet.write_table(arrow.table({"image": [good, good[:60], None]}), tmp_path / "a.parquet")
    first, *others = find_sources(str(tmp_path / "a.parquet"))
    assert same(first, pictures[0])
    for number, other in enumerate(others, start=1):
        with pytest.raises(ImageError, match=rf"a\.parquet:{number}: "):
            open_image(other)
    parquet.write_table(arrow.table({"photo": [good]}), tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes(good)
    for name in ("b", "c"):
        with pytest.raises(ValueError, match=rf"{name}\.parquet: no Parquet table with a column"):
            find_sources(str(tmp_path / f"{name}.parquet"))


def test_without_pyarrow_it_is_said_what_to_install(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").touch()
    with pytest.raises(ValueError, match=r"pip install 'captioner\[ray\]'"):
        find_sources(str(tmp_path / "a.parquet"))
