"""Flickr30k Entities is read as published; what is wrong in it is named, and its image goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.build import build_collection
from captioner.config import DataOptions, SplitOptions
from captioner.data.readers import read_entities
from captioner.data.records import Mention, Record
from captioner.data.tar import TarMember
from captioner.vocabulary import words

SENTENCES = """\
[/EN#11/people Two young guys] with [/EN#12/bodyparts shaggy hair] look at \
[/EN#13/bodyparts/people the man 's hands] while hanging out in [/EN#14/scene the yard] .
[/EN#11/people Two young , White males] are outside near [/EN#15/other many upside-down bushes] .
[/EN#16/people A man] in [/EN#17/clothing a blue shirt] enjoying [/EN#0/notvisual themselves] .

[/EN#18/people A man] hands [/EN#18/people himself] [/EN#19/other time] spent together .
"""
OBJECT = """\
	<object>
		{names}
		<bndbox>
			<xmin>{0}</xmin>
			<ymin>{1}</ymin>
			<xmax>{2}</xmax>
			<ymax>{3}</ymax>
		</bndbox>
	</object>
"""
NOWHERE = """\
	<object>
		<name>{}</name>
		<scene>{}</scene>
		<nobndbox>{}</nobndbox>
	</object>
"""
HEADER = """\
<annotation>
	<filename>1000092795.jpg</filename>
	<size>
		<width>200</width>
		<height>100</height>
		<depth>3</depth>
	</size>
"""


def thing(*box: int, of: str) -> str:
    return OBJECT.format(*box, names="\n\t\t".join(f"<name>{n}</name>" for n in of.split()))


ANNOTATION = (
    HEADER
    + thing(1, 1, 100, 50, of="11")
    + thing(101, 1, 200, 50, of="11 16")
    + thing(1, 51, 20, 100, of="13")
    + thing(21, 51, 40, 100, of="15")
    + thing(41, 51, 60, 100, of="18")
    + thing(61, 51, 80, 100, of="0")
    + NOWHERE.format(14, 1, 0)
    + NOWHERE.format(19, 0, 1)
    + "</annotation>\n"
)
LEFT, RIGHT = (0.0, 0.0, 0.5, 0.5), (0.5, 0.0, 1.0, 0.5)
HANDS, BUSHES, OTHER = (0.0, 0.5, 0.1, 1.0), (0.1, 0.5, 0.2, 1.0), (0.2, 0.5, 0.3, 1.0)


def write(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def records(*names: str) -> list[Record]:
    return [Record(f"{name}.jpg", Path(f"{name}.jpg"), ["a"], "val") for name in names]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "Annotations" / "1000092795.xml", ANNOTATION)
    write(tmp_path / "Sentences" / "1000092795.txt", SENTENCES)
    return tmp_path


def test_an_image_in_a_shard_has_its_regions_too(folder: Path):
    image = TarMember(folder / "val-00.tar", "some/1000092795.jpg", offset=512, size=9)
    record = Record("val-00/some/1000092795", image, ["a"], "val")
    assert read_entities(folder, [record]) == []
    assert record.regions.shape == (200, 100)


def test_the_last_word_of_a_phrase_names_its_boxes(folder: Path):
    (record,) = records("1000092795")
    assert read_entities(folder, [record]) == []
    assert record.regions.shape == (200, 100)
    caption = (
        "Two young guys with shaggy hair look at the man's hands while hanging out in the yard."
    )
    told = record.regions.mentions(words(caption))
    assert told == [Mention(2, [LEFT, RIGHT]), Mention(10, [HANDS])]  # hair and yard have no box
    told = record.regions.mentions(
        words("Two young, White males are outside near many upside-down bushes.")
    )
    assert told == [Mention(3, [LEFT, RIGHT]), Mention(9, [BUSHES])]


def test_a_reference_has_its_own_phrases_and_any_other_caption_all_of_that_name(folder: Path):
    (record,) = records("1000092795")
    read_entities(folder, [record])
    mentions = record.regions.mentions
    assert mentions(words("a man in a blue shirt enjoying themselves")) == [Mention(1, [RIGHT])]
    assert mentions(words("the man has hands")) == [Mention(1, [RIGHT, OTHER]), Mention(3, [HANDS])]
    assert mentions(words("two men look at a guy himself")) == []  # other words; and no noun


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("Annotations", None, "xml: no such file"),
        ("Sentences", None, "txt: no such file"),
        ("Annotations", ANNOTATION[:300], "xml: not XML"),
        ("Annotations", "", "xml: not XML: no element found"),
        ("Annotations", ANNOTATION.replace("<width>200</width>", ""), "<size/width>, got ''"),
        ("Annotations", ANNOTATION.replace("200", "0"), "<size/width>, got '0'"),
        ("Annotations", ANNOTATION.replace("<xmax>20<", "<xmax>many<"), "<xmax>, got 'many'"),
        ("Annotations", ANNOTATION.replace("<xmax>20<", "<xmax>0<"), "without width or height"),
        ("Sentences", SENTENCES.replace("guys]", "guys"), r"txt:1: a phrase must be"),
        ("Sentences", "A dog .\n[/EN#1 a cat] .\n", r"txt:2: a phrase must be"),
    ],
)
def test_an_image_whose_files_are_wrong_goes_without_regions(
    folder: Path, file: str, content: str | None, message: str
):
    suffix = {"Annotations": "xml", "Sentences": "txt"}
    for name, whole in (("Annotations", ANNOTATION), ("Sentences", SENTENCES)):
        given = content if name == file else whole
        if given is not None:
            write(folder / name / f"7.{suffix[name]}", given)
    good, bad = records("1000092795", "7")
    (problem,) = read_entities(folder, [good, bad])
    assert good.regions is not None and bad.regions is None
    assert problem.startswith("regions of 7.jpg: ") and message in problem and "\n" not in problem
    with pytest.raises(ValueError, match="has regions of none of the images; regions of 7"):
        read_entities(folder, [bad])


def test_a_wrong_folder_is_named(folder: Path):
    with pytest.raises(ValueError, match="elsewhere/Annotations: no such folder"):
        read_entities(folder / "elsewhere", records("1000092795"))


def test_the_option_gives_regions_to_the_split_that_is_scored_and_to_one_that_is_grounded(
    folder: Path,
):
    sentence = '{{"raw": "{}"}}'.format("A man in a blue shirt enjoying themselves .")
    entries = [
        f'{{"filename": "{name}.jpg", "split": "{split}", "sentences": [{sentence}]}}'
        for name, split in (("1000092795", "test"), ("8", "train"))
    ]
    file = write(folder / "dataset.json", f'{{"images": [{", ".join(entries)}]}}')
    for name in ("1000092795", "8"):
        write(folder / "images" / f"{name}.jpg")
    trained = DataOptions(kind="karpathy", file=str(file), images=str(folder / "images"))
    collection = build_collection(SplitOptions(split="test", entities=str(folder)).over(trained))
    (scored,), (other,) = collection.split("test"), collection.split("train")
    assert scored.regions.mentions(words(scored.captions[0])) == [Mention(1, [RIGHT])]
    assert other.regions is None and collection.problems == []
    write(folder / "Annotations" / "8.xml", ANNOTATION)
    write(folder / "Sentences" / "8.txt", SENTENCES)
    options = SplitOptions(split="test", entities=str(folder)).over(trained)
    assert all(record.regions for record in build_collection(options, ["train"]).records)
    with pytest.raises(ValueError, match=r"loss\.grounding needs regions: .* data\.entities=DIR"):
        build_collection(trained, ["train"])
    with pytest.raises(ValueError, match=r"data\.entities is for photographs"):
        DataOptions(entities=str(folder))
