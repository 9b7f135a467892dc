"""What a user imports: any picture in, a caption and all that led to it out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import build_tiny, scenes, write_picture

from captioner.captioner import Caption, Captioner
from captioner.config import SearchOptions
from captioner.data.images import ImageError

OPTIONS = SearchOptions(width=3, max_length=7)
GATES = ("input", "forget", "output", "candidate", "cell", "hidden")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny().save(tmp_path_factory.mktemp("run") / "best")


@pytest.fixture(scope="module")
def captioner(folder: Path) -> Captioner:
    return Captioner.load(folder, "cpu", OPTIONS)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return [write_picture(tmp_path / f"{i}.png", i, size=(30 + 5 * i, 40)) for i in range(5)]


def same(one: Caption, other: Caption) -> bool:
    """The same words, and the same numbers up to what batching does to their last bits."""
    numbers = ("word_log_probs", "alpha", "beta")
    close = [np.allclose(getattr(one, n), getattr(other, n), atol=1e-5) for n in numbers]
    close += [np.allclose(one.gates[gate], other.gates[gate], atol=1e-5) for gate in GATES]
    return one.words == other.words and all(close)


def test_arrays_have_a_row_per_word(captioner: Captioner, pictures: list[Path]):
    caption = captioner(pictures[0])
    steps = len(caption.words)
    assert caption.image == str(pictures[0])
    assert steps > 0 and caption.text.split() == caption.words
    assert caption.alpha.shape == (steps, captioner.grid.height, captioner.grid.width)
    assert np.allclose(caption.alpha.sum((1, 2)), 1, atol=1e-5)
    assert caption.word_log_probs.shape == caption.beta.shape == (steps,)
    assert ((caption.beta > 0) & (caption.beta < 1)).all()
    assert {name: gate.shape for name, gate in caption.gates.items()} == dict.fromkeys(
        GATES, (steps, 16)
    )
    assert caption.log_prob <= caption.word_log_probs.sum() + 1e-5  # `<end>` comes on top
    assert np.allclose(
        caption.gates["hidden"], caption.gates["output"] * np.tanh(caption.gates["cell"]), atol=1e-5
    )


def test_a_path_a_picture_and_a_scene_are_all_taken(captioner: Captioner, pictures: list[Path]):
    by_path = captioner(pictures[1])
    with Image.open(pictures[1]) as opened:
        assert same(captioner(opened), by_path)
        assert same(captioner(opened.copy()), by_path)
    assert same(captioner(str(pictures[1])), by_path)
    scene = scenes()[0].image
    assert same(captioner(scene), captioner(scene.draw()))
    with pytest.raises(ImageError, match="int is no picture"):
        captioner(7)


def test_a_batch_gives_what_each_picture_gives_alone(captioner: Captioner, pictures: list[Path]):
    together = captioner.caption(pictures)
    assert [caption.image for caption in together] == [str(path) for path in pictures]
    alone = [captioner(path) for path in pictures]
    assert all(map(same, alone, together))
    assert not any(map(same, alone[1:], together))  # so that a mix-up would show
    assert captioner.caption([]) == []


@pytest.mark.parametrize("batch", [1, 2, 32])
def test_a_stream_tells_damaged_pictures_in_their_place_and_goes_on(
    captioner: Captioner, pictures: list[Path], batch: int
):
    for number, content in ((0, b""), (2, pictures[2].read_bytes()[:60]), (3, b"no image")):
        pictures[number].write_bytes(content)
    results = list(captioner.stream(iter(pictures), batch))
    assert [isinstance(result, ImageError) for result in results] == [
        True,
        False,
        True,
        True,
        False,
    ]
    for path, result in zip(pictures, results, strict=True):
        if isinstance(result, ImageError):
            assert str(path) in str(result)
        else:
            assert result.image == str(path) and same(result, captioner(path))


def test_a_stream_reads_no_further_than_its_batch(captioner: Captioner, pictures: list[Path]):
    taken = []
    stream = captioner.stream((taken.append(path) or path for path in pictures), batch=2)
    next(stream)
    assert taken == pictures[:2]


def test_the_other_beams_are_alternatives_best_first(captioner: Captioner, pictures: list[Path]):
    caption = captioner(pictures[0])
    scores = [each.log_prob for each in (caption, *caption.alternatives)]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    assert len({each.text for each in (caption, *caption.alternatives)}) == 3
    assert len(caption.alternatives[0].alpha) == len(caption.alternatives[0].words)


def test_no_beta_where_the_model_has_none_and_one_number_per_word_of_a_vector(tmp_path: Path):
    picture = write_picture(tmp_path / "a.png")
    none, vector = (
        Captioner.load(build_tiny(beta=kind).save(tmp_path / kind), "cpu", OPTIONS)(picture)
        for kind in ("none", "vector")
    )
    assert none.beta is None
    assert vector.beta.shape == (len(vector.words),)


def test_adaptive_attention_shows_its_own_gate_as_beta(tmp_path: Path):
    tiny = build_tiny(beta="none", attention_kind="adaptive")
    captioner = Captioner.load(tiny.save(tmp_path / "run"), "cpu", OPTIONS)
    caption = captioner(write_picture(tmp_path / "a.png"))
    assert caption.beta.shape == (len(caption.words),)
    assert ((caption.beta > 0) & (caption.beta < 1)).all()


def test_a_folder_is_all_that_is_needed_wherever_it_lies(folder: Path, tmp_path: Path, pictures):
    shutil.copytree(folder, tmp_path / "moved")
    moved = Captioner.load(str(tmp_path / "moved"), "cpu", OPTIONS)
    assert same(moved(pictures[0]), Captioner.load(folder, "cpu", OPTIONS)(pictures[0]))


def test_mistakes_are_named(folder: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="is no checkpoint"):
        Captioner.load(tmp_path)
    with pytest.raises(ValueError, match="no device 'gpu' here"):
        Captioner.load(folder, "gpu")
