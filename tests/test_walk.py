"""The GIF: each word has its turn, marked in the sentence, under where the decoder looked."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence
from test_visualize import HOSTILE, make_caption, make_view

from captioner.visualize.overlay import lay_over
from captioner.visualize.walk import save_walk

CHOSEN = np.array([0, 34, 78])  # the colour behind the current word


def still(caption, path: Path) -> list[Image.Image]:
    """The frames that stay: the bare picture, then one for each word."""
    save_walk(caption, make_view(), path)
    with Image.open(path) as walk:
        frames = [(f.convert("RGB"), f.info["duration"]) for f in ImageSequence.Iterator(walk)]
    return [frame for frame, duration in frames if duration > 500]


def marked(frame: Image.Image) -> np.ndarray:
    """Where below the picture the mark is, as pixels (rows, columns)."""
    below = np.asarray(frame, float)[frame.width + 1 :]
    near = np.abs(below - CHOSEN).sum(2) < 40
    return near & (near.sum(0) > 18)  # words in ink come near it, too, but are not as tall


def test_each_word_has_its_turn_and_its_place(tmp_path: Path):
    bare, *frames = still(make_caption(["a", "big", "red", "circle"]), tmp_path / "a.gif")
    assert len(frames) == 4 and not marked(bare).any()
    places = [np.flatnonzero(marked(frame).any(0)) for frame in frames]
    assert all(place[0] > 0 and place[-1] < bare.width - 1 for place in places)
    assert all(a[-1] < b[0] for a, b in pairwise(places))  # left to right
    assert np.ptp(places[3]) > 2 * np.ptp(places[0])  # "circle" is longer than "a"


def test_the_light_is_where_the_decoder_looked(tmp_path: Path):
    caption = make_caption()
    _, *frames = still(caption, tmp_path / "a.gif")
    for frame, alpha in zip(frames, caption.alpha, strict=True):
        view = make_view().resize((frame.width,) * 2, Image.Resampling.LANCZOS)
        expected = np.asarray(lay_over(view, alpha), float)
        shown = np.asarray(frame.crop((0, 0, frame.width, frame.width)), float)
        assert np.abs(shown - expected).mean() < 12  # of 255: 256 colours in all


@pytest.mark.parametrize("words", [[], ["one"], HOSTILE, ["w" * 300], ["word"] * 30])
def test_any_sentence_fits(words: list[str], tmp_path: Path):
    frames = still(make_caption(words), tmp_path / "a.gif")
    assert len(frames) == len(words) + 1
    for frame in frames[1:]:
        rows, columns = np.nonzero(marked(frame))
        assert rows.max() < frame.height - frame.width - 2 and columns.max() < frame.width - 1


def test_it_plays_for_ever_and_is_light_enough_to_send(tmp_path: Path):
    save_walk(make_caption([f"word{i}" for i in range(12)]), make_view(448), tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as walk:
        assert walk.info["loop"] == 0
    assert (tmp_path / "a.gif").stat().st_size < 2_000_000


def test_what_stands_still_does_not_flicker(tmp_path: Path):
    alpha = np.tile(make_caption(["a"]).alpha, (3, 1, 1))  # the decoder looks where it looked
    _, *frames = still(make_caption(["a", "red", "dog"], alpha=alpha), tmp_path / "a.gif")
    pictures = [np.asarray(f)[: f.width] for f in frames]
    assert all((one == other).all() for one, other in pairwise(pictures))
