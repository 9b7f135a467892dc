from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from PIL import Image

from captioner.config import (
    DataOptions,
    DecoderOptions,
    EncoderOptions,
    TrainingOptions,
    TrainOptions,
)
from captioner.run import train
from captioner.vocabulary import END, PAD, SPECIALS, START, UNKNOWN, Vocabulary, words

CAPTIONS = ["A dog runs .", "A dog's ball!", "The dog sees a cat.", "a cat and a dog"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dog runs .", ["a", "dog", "runs"]),
        ("  Two,  (three) four!\n\tfive? ", ["two", "three", "four", "five"]),
        ("a dog's ball", ["a", "dog's", "ball"]),
        ("a dog’s ball", ["a", "dog's", "ball"]),
        ("the dogs' balls, 'quoted'", ["the", "dogs", "balls", "quoted"]),
        ("a T-shirt - red", ["a", "t-shirt", "red"]),
        ("under_score and 3 dogs", ["under", "score", "and", "3", "dogs"]),
        (
            "Ein GROẞER Hund, été, собака, 一只狗",
            ["ein", "großer", "hund", "été", "собака", "一只狗"],
        ),
        ("<start> <unk> <end>", ["start", "unk", "end"]),
        ("Cafe\N{COMBINING ACUTE ACCENT}", ["café"]),
        ("... !", []),
        ("", []),
    ],
)
def test_words_are_lower_cased_and_free_of_punctuation(text: str, expected: list[str]):
    assert words(text) == expected
    assert words(" ".join(expected)) == expected


def test_captions_come_back_from_their_ids():
    vocabulary = Vocabulary.build(CAPTIONS)
    for caption in CAPTIONS:
        ids = vocabulary.encode(caption)
        assert ids[-1] == END and min(ids[:-1]) > UNKNOWN
        assert vocabulary.decode(ids) == words(caption)


def test_decoding_cuts_at_the_end_and_leaves_padding_and_start_out():
    vocabulary = Vocabulary(["a", "dog"])
    assert vocabulary.decode([START, 4, PAD, 5, UNKNOWN, END, 4, 5]) == ["a", "dog", "<unk>"]
    assert vocabulary.decode([END, 4]) == []


def test_an_unknown_word_and_a_word_like_a_special_one_are_unknown():
    vocabulary = Vocabulary(["a", "dog"])
    assert vocabulary.encode("a zebra <pad> <end> dog") == [4, UNKNOWN, UNKNOWN, UNKNOWN, 5, END]
    assert vocabulary.encode("...") == [END]


def test_rare_words_are_left_out():
    assert Vocabulary.build(CAPTIONS, min_count=1).entries[4:] == [
        *("a", "dog", "cat"),  # 4, 3 and 2 times
        *("and", "ball", "dog's", "runs", "sees", "the"),  # once each: in alphabetical order
    ]
    assert Vocabulary.build(CAPTIONS, min_count=2).entries == [*SPECIALS, "a", "dog", "cat"]
    assert Vocabulary.build(CAPTIONS, min_count=3).entries[4:] == ["a", "dog"]
    with pytest.raises(ValueError, match="no word occurs 6 times in the training captions"):
        Vocabulary.build(CAPTIONS, min_count=6)


def test_ids_do_not_depend_on_the_order_of_captions():
    expected = Vocabulary.build(CAPTIONS)
    for seed in range(5):
        shuffled = random.Random(seed).sample(CAPTIONS, k=len(CAPTIONS))
        assert Vocabulary.build(shuffled).entries == expected.entries


def test_the_hash_tells_vocabularies_apart():
    known = [["a", "dog"], ["dog", "a"], ["a"], ["a", "dog", "cat"], ["adog"]]
    assert len({Vocabulary(entries).hash for entries in known}) == len(known)
    assert Vocabulary(["a", "dog"]).hash == Vocabulary(["a", "dog"]).hash


def test_a_word_may_stand_once():
    with pytest.raises(ValueError, match="holds 'dog' twice"):
        Vocabulary(["a", "dog", "cat", "dog"])
    with pytest.raises(ValueError, match="holds '<pad>' twice"):
        Vocabulary(["a", "<pad>"])


def test_a_saved_vocabulary_is_loaded_as_it_was(tmp_path: Path):
    vocabulary = Vocabulary.build([*CAPTIONS, "été 一只狗 dog’s"])
    vocabulary.save(tmp_path / "vocabulary.json")
    loaded = Vocabulary.load(tmp_path / "vocabulary.json")
    assert loaded.entries == vocabulary.entries and loaded.hash == vocabulary.hash


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["words"].append("zebra"),
        lambda content: content["words"].reverse(),
        lambda content: content["words"].__setitem__(0, "Dog"),
        lambda content: content.update(hash="0" * 16),
    ],
)
def test_a_changed_file_is_refused(tmp_path: Path, change):
    path = tmp_path / "vocabulary.json"
    Vocabulary.build(CAPTIONS).save(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=r"vocabulary\.json was changed"):
        Vocabulary.load(path)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"words": ["a"]}', '{"hash": "0"}', '{"words": [[]], "hash": ""}',
     '{"words": [1, 2], "hash": ""}', '{"words": null, "hash": ""}', "\x80"],
)  # fmt: skip
def test_a_file_that_is_no_vocabulary_is_named(tmp_path: Path, content: str):
    path = tmp_path / "vocabulary.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"vocabulary\.json is no vocabulary") as caught:
        Vocabulary.load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"nowhere\.json"):
        Vocabulary.load(tmp_path / "nowhere.json")


def test_words_of_validation_captions_are_never_learnt(tmp_path: Path):
    lines = ["image,caption,split"]
    for i, split in enumerate(["train", "train", "val"]):
        Image.new("RGB", (32, 32), (80 * i, 0, 0)).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,a {'zebra' if split == 'val' else 'dog'},{split}")
    (tmp_path / "data.csv").write_text("\n".join(lines), encoding="utf-8")
    data = DataOptions(kind="csv", root=str(tmp_path), file="data.csv", min_count=1)
    options = TrainOptions(
        name="run",
        runs=str(tmp_path),
        device="cpu",
        data=data,
        encoder=EncoderOptions(image_size=32, fine_tune_from=0),
        decoder=DecoderOptions(hidden=8, embedding=8, attention=8),
        training=TrainingOptions(epochs=1, pictures=0),
    )
    train(options)
    saved = Vocabulary.load(tmp_path / "run" / "checkpoints" / "last" / "vocabulary.json")
    assert saved.entries == [*SPECIALS, "a", "dog"]
