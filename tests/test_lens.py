"""The figure of the gates: it opens at any length, and its numbers are the arrays'."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image
from test_visualize import HOSTILE, make_caption, make_view

from captioner.visualize.lens import save_lens
from captioner.visualize.memory import follow, shares


def drawn(path: Path, caption) -> tuple[Image.Image, list[str]]:
    """The figure, and all that is written into its axes."""
    texts, write = [], Axes.text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Axes, "text", lambda *a, **k: texts.append(str(a[3])) or write(*a, **k))
        save_lens(caption, make_view(), path)
    with Image.open(path) as figure:
        return figure.convert("RGB"), texts


@pytest.mark.parametrize("count", [0, 1, 3, 15, 16, 30])
def test_it_opens_at_any_number_of_words(count: int, tmp_path: Path):
    words = [f"word{i}" for i in range(count)]
    figure, texts = drawn(tmp_path / "a.png", make_caption(words))
    assert 400 < figure.width < 2200
    assert [text for text in texts if text.startswith("word")] == words


def test_a_long_caption_goes_on_in_a_second_line(tmp_path: Path):
    one, two = (drawn(tmp_path / "a.png", make_caption(["word"] * count))[0] for count in (15, 30))
    assert two.width == one.width and 1.7 * one.height < two.height < 2 * one.height


def test_the_shares_written_are_the_arrays(tmp_path: Path):
    caption = make_caption()
    _, texts = drawn(tmp_path / "a.png", caption)
    lost, new = shares(follow(caption.gates))
    assert [text for text in texts if text.startswith("+")] == [f"+{each:.0%}" for each in new]
    assert [text for text in texts if "%" in text and text[0] == "−"] == [
        f"−{each:.0%}" for each in lost
    ]
    for name in ("forget", "input", "output"):
        means = [f"{mean:.2f}" for mean in caption.gates[name].mean(1)]
        assert " ".join(means) in " ".join(texts)


def test_another_forget_gate_is_another_picture(tmp_path: Path):
    one, other = make_caption(), make_caption()
    other.gates = {**other.gates, "forget": other.gates["forget"] * 0.5}
    pictures = [drawn(tmp_path / "a.png", caption)[0] for caption in (one, other, one)]
    assert pictures[0].size == pictures[1].size
    assert pictures[0].tobytes() != pictures[1].tobytes()
    assert pictures[0].tobytes() == pictures[2].tobytes()


def test_hostile_words_and_still_gates_are_drawn(tmp_path: Path):
    gates = {name: np.zeros((len(HOSTILE), 4)) for name in make_caption().gates}
    drawn(tmp_path / "a.png", make_caption([*HOSTILE], gates=gates))


def test_a_caption_without_gates_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"scene\.png"):
        save_lens(make_caption(gates={}), make_view(), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
