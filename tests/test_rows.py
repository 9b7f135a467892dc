"""Rows of captions: what is written is what came, one by one, in either form."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from captioner import rows
from captioner.caption import Caption
from captioner.data.images import ImageError
from captioner.grid import Centres
from captioner.rows import Counts, as_row, coco_image_id, write_rows


def caption(text: str) -> Caption:
    none, centres = np.zeros(0), Centres(np.zeros(1), np.zeros(1))
    return Caption("a", text, text.split(), -1.5, none, none, centres, None, {})


ROWS = [
    as_row("photos/COCO_val2014_000000000042.jpg", caption("a dög")),
    as_row(Path("photos/b.jpg"), ImageError("photos/b.jpg: the file is empty")),
    as_row("photos/c.jpg", caption("")),
]


def test_a_row_says_what_is_in_the_picture_or_why_not():
    assert ROWS[0].keys() == {"image", "caption", "words", "log_prob"}
    assert ROWS[0]["words"] == ["a", "dög"] and ROWS[2]["words"] == []
    assert ROWS[1] == {"image": "photos/b.jpg", "error": "photos/b.jpg: the file is empty"}


@pytest.mark.parametrize("out", ["-", "x.jsonl"])
def test_lines_are_the_rows(out: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert write_rows(ROWS, out) == Counts(captions=2, errors=1)
    printed = capsys.readouterr()
    text = printed.out if out == "-" else Path(out).read_text(encoding="utf-8")
    assert [json.loads(line) for line in text.splitlines()] == ROWS
    assert "dög" in text and printed.err == ""


def test_results_have_the_ids_that_coco_s_server_wants(tmp_path: Path, capsys):
    assert write_rows(ROWS, str(tmp_path / "x.json")) == Counts(captions=2, errors=1)
    results = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert results == [
        {"image_id": 42, "caption": "a dög"},
        {"image_id": "c", "caption": ""},
    ]
    assert capsys.readouterr() == ("", "left out: photos/b.jpg: the file is empty\n")


@pytest.mark.parametrize(
    ("stem", "image_id"),
    [
        ("COCO_test2014_000000000001", 1),
        ("000000391895", 391895),
        ("42", 42),
        ("dog-42", "dog-42"),
        ("1000268201_693b08cb0e", "1000268201_693b08cb0e"),
        ("٤٢", "٤٢"),
    ],
)
def test_numbers_are_read_from_coco_s_names_alone(stem: str, image_id: int | str):
    assert coco_image_id(stem) == image_id


@pytest.mark.parametrize("out", ["x.jsonl", "x.json"])
def test_a_file_is_there_when_it_is_whole(out: str, tmp_path: Path):
    def broken():
        yield ROWS[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_rows(broken(), str(tmp_path / out))
    assert list(tmp_path.iterdir()) == []


def test_a_table_holds_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs captioner[ray]")
    monkeypatch.setattr(rows, "TOGETHER", 2)
    assert write_rows(ROWS, str(tmp_path / "x.parquet")) == Counts(captions=2, errors=1)
    found = parquet.read_table(tmp_path / "x.parquet").to_pylist()
    assert [{k: v for k, v in row.items() if v is not None} for row in found] == ROWS


def test_a_table_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match=r"pip install 'captioner\[ray\]'"):
        write_rows(ROWS, str(tmp_path / "x.parquet"))
    assert list(tmp_path.iterdir()) == []
