from __future__ import annotations

from pathlib import Path

import pytest

from captioner.data.records import Collection, Record

SPLITS = ("train", "val", "train", "train")
COLLECTION = Collection(
    [Record(str(i), Path(f"{i}.jpg"), [f"{i}a", f"{i}b"], s) for i, s in enumerate(SPLITS)]
)


def test_a_split_has_its_records_in_order_up_to_a_limit():
    assert [record.image_id for record in COLLECTION.split("train")] == ["0", "2", "3"]
    assert [record.image_id for record in COLLECTION.split("train", 2)] == ["0", "2"]
    assert COLLECTION.splits() == ["train", "val"]


def test_captions_are_those_of_the_same_records_or_none():
    assert COLLECTION.captions("train") == ["0a", "0b", "2a", "2b", "3a", "3b"]
    assert COLLECTION.captions("train", 2) == ["0a", "0b", "2a", "2b"]
    assert COLLECTION.captions("test") == []


def test_a_split_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(ValueError, match="no split 'test' in this data; it has train, val"):
        COLLECTION.split("test")
