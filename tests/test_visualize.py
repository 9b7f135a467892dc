"""What was seen, drawn: overlay in place, files that parse, nothing that can break out of them."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from captioner.grid import Centres, Grid, even
from captioner.visualize.arrays import save_arrays
from captioner.visualize.memory import amount, follow
from captioner.visualize.overlay import lay_over, overlay_colours, upsample
from captioner.visualize.page import UNITS, Gallery, save_page
from captioner.visualize.panels import save_panels

HOSTILE = ["</script><script>alert(1)</script>", "<!--", '"', "'", "$x^{$", "{{data}}", "&amp;"]
GATES = ("input", "forget", "output", "candidate", "cell", "hidden")


def make_caption(words=("a", "red", "circle"), hidden=24, grid=(7, 7), **changes):
    """A caption as the decoder would return it; each word looks at one cell, the next on."""
    noise = np.random.default_rng(0)
    steps = len(words)
    alpha = np.zeros((steps, grid[0] * grid[1]), np.float32)
    alpha[np.arange(steps), np.arange(steps) * 9 % alpha.shape[1]] = 1
    gates = {name: noise.random((steps, hidden), np.float32) for name in GATES}
    attributes = {
        "image": "/home/someone/pictures/scene.png",
        "text": " ".join(words),
        "words": list(words),
        "log_prob": -1.5,
        "word_log_probs": -noise.random(steps, np.float32),
        "alpha": alpha.reshape(steps, *grid),
        "centres": even(grid),
        "beta": noise.random(steps, np.float32),
        "gates": gates,
        "alternatives": [],
    }
    return SimpleNamespace(**attributes | changes)


def make_view(size=112):
    """A picture with as much detail at every scale, as photos have it."""
    noise, pixels = np.random.default_rng(1), np.zeros((size, size, 3))
    for side in (4, 8, 16, 32, 64, 112):
        octave = Image.fromarray(noise.integers(0, 256, (side, side, 3), np.uint8))
        pixels += np.asarray(octave.resize((size, size), Image.Resampling.BICUBIC)) / 6
    return Image.fromarray(pixels.astype(np.uint8))


def read_page(path):
    """The page's own data, and every (tag, attribute, value) in its markup."""
    attributes = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, pairs: attributes.extend((tag, *pair) for pair in pairs)
    text = path.read_text(encoding="utf-8")
    parser.feed(text)
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(data[1]), attributes


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 5), (6, 6), (6, 0), (2, 3)])
@pytest.mark.parametrize("size", [112, 130])
def test_one_cell_lights_its_own_square(row, column, size):
    alpha = np.zeros((7, 7), np.float32)
    alpha[row, column] = 1
    smooth = upsample(alpha, size)
    rows, columns = np.nonzero(smooth > 0.6)  # well inside: half is reached at the cell's edges
    side = size / 7
    assert row * side <= rows.min() < rows.max() < (row + 1) * side
    assert column * side <= columns.min() < columns.max() < (column + 1) * side
    if 0 < row < 6 and 0 < column < 6:  # in the middle, light falls off alike on all sides
        places = np.arange(size) + 0.5
        assert smooth.sum(1) @ places / smooth.sum() == pytest.approx((row + 0.5) * side, abs=0.2)
        assert smooth.sum(0) @ places / smooth.sum() == pytest.approx(
            (column + 0.5) * side, abs=0.2
        )


@pytest.mark.parametrize("cell", [(3, 2), (1, 4)])
def test_light_stands_where_the_location_does(cell):
    """Of MobileNetV2: location i stands on pixel 32 i of 224, not in the middle of a seventh."""
    alpha = np.zeros((7, 7), np.float32)
    alpha[cell] = 1
    centres = Grid(7, 7, stride=32, offset=0.5, size=224).centres
    smooth = upsample(alpha, 224, centres)
    light, places = np.maximum(smooth, 0), np.arange(224) + 0.5
    for axis, index in enumerate(cell):
        along = light.sum(1 - axis)
        assert along @ places / along.sum() == pytest.approx(32 * index + 0.5, abs=0.3)
    view = Image.new("RGB", (224, 224), "white")
    lit = np.asarray(lay_over(view, alpha, centres).convert("L"), float)
    assert np.unravel_index(lit.argmax(), lit.shape) == pytest.approx(
        (32 * cell[0], 32 * cell[1]), abs=3
    )


def test_borders_repeat_the_outermost_locations():
    """All of a picture is painted, also where locations stand in its upper left quarter alone."""
    alpha = np.array([[0.1, 0.2], [0.3, 0.4]], np.float32)
    centres = Centres(np.array([0.0, 0.25]), np.array([0.0, 0.25]))
    smooth = upsample(alpha, 64, centres)
    assert smooth[0, 0] == pytest.approx(0.1, abs=0.01) and smooth[40:, 40:] == pytest.approx(0.4)


def test_an_even_spread_stays_even_and_nothing_overshoots():
    even = np.full((4, 4), 1 / 16, np.float32)
    assert upsample(even, 50) == pytest.approx(1 / 16)
    rough = np.random.default_rng(2).random((5, 5), np.float32)
    smooth = upsample(rough, 64)
    assert rough.min() <= smooth.min() and smooth.max() <= rough.max()


def test_the_attended_place_keeps_the_picture_and_the_rest_goes_dark():
    alpha = np.zeros((4, 4), np.float32)
    alpha[1, 2] = 1
    light = np.asarray(lay_over(Image.new("RGB", (64, 64), "white"), alpha).convert("L"), float)
    assert light[24, 40] > 220 and light[56, 8] < 120
    opacity = overlay_colours()[:, 3].astype(int)
    assert (np.diff(opacity) <= 0).all()  # the more it looked, the more of the picture shows


@pytest.mark.parametrize("count", [0, 1, 2, 7, 12, 31])
def test_panels_open_at_any_number_of_words(count, tmp_path):
    save_panels(make_caption([f"word{i}" for i in range(count)]), make_view(), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as figure:
        figure.load()
        assert 400 < figure.width < 1700


def test_twelve_panels_of_a_photo_stay_under_a_megabyte(tmp_path):
    words = [f"word{i}" for i in range(12)]
    save_panels(make_caption(words, grid=(14, 14)), make_view(448), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 1_000_000


def test_panels_take_hostile_and_endless_words_and_no_beta(tmp_path):
    drawn = []
    for word in ("w" * 300, "v" * 300):  # cut short, yet still told apart
        caption = make_caption([*HOSTILE, word], text="hostile", beta=None)
        save_panels(caption, make_view(), tmp_path / "a.png")
        drawn.append(Image.open(tmp_path / "a.png").convert("RGB"))
    assert drawn[0].size == drawn[1].size and drawn[0].tobytes() != drawn[1].tobytes()


def test_beta_is_drawn_where_there_is_one(tmp_path):
    save_panels(make_caption(beta=None), make_view(), tmp_path / "without.png")
    for name, beta in (("low", 0.1), ("high", 0.9)):
        save_panels(make_caption(beta=np.full(3, beta)), make_view(), tmp_path / f"{name}.png")
    low, high, without = (Image.open(tmp_path / f"{n}.png") for n in ("low", "high", "without"))
    assert low.size == high.size and low.tobytes() != high.tobytes()
    assert without.height < low.height


def test_page_asks_no_network(tmp_path):
    save_page(make_caption(), make_view(), tmp_path / "a.html")
    _, attributes = read_page(tmp_path / "a.html")
    assert not [a for a in attributes if a[1] in ("src", "href", "srcset", "action", "data")]
    policy = next(value for _, name, value in attributes if name == "content" and "src" in value)
    assert policy.startswith("default-src 'none'; img-src data:;")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    remote = set(re.findall(r"https?://[^\s\"')]+|@import|url\(", text))
    assert remote <= {"http://www.w3.org/2000/svg"}  # a name, never fetched


def test_page_holds_the_numbers(tmp_path):
    caption = make_caption()
    save_page(caption, make_view(), tmp_path / "a.html")
    (item,) = read_page(tmp_path / "a.html")[0]["items"]
    assert item["words"] == caption.words and item["name"] == "scene.png"
    grid = item["alpha"]["height"], item["alpha"]["width"]
    assert np.reshape(item["alpha"]["values"], (3, *grid)) == pytest.approx(caption.alpha, abs=1e-5)
    assert item["alpha"]["down"] == item["alpha"]["across"] == [-0.5, 6.5]
    assert item["beta"] == pytest.approx(caption.beta, abs=1e-3)
    assert item["wordLogProbs"] == pytest.approx(caption.word_log_probs, abs=1e-3)
    memory, units = item["memory"], item["memory"]["units"]
    assert list(memory["strips"]) == ["forget", "input", "candidate", "cell", "output"]
    for name, strip in memory["strips"].items():
        gate = caption.gates[name]
        assert np.array(strip["values"]) == pytest.approx(gate[:, units], abs=0.006)
        assert strip["mean"] == pytest.approx(np.abs(gate).mean(1), abs=1e-3)
    assert "someone" not in (tmp_path / "a.html").read_text()


def test_the_belt_is_the_arrays(tmp_path):
    caption = make_caption(["a", "b", "c", "d"])
    for step in range(1, 4):  # as equation (2) has it
        gates = {name: values[step] for name, values in caption.gates.items()}
        kept = gates["forget"] * caption.gates["cell"][step - 1]
        caption.gates["cell"][step] = kept + gates["input"] * gates["candidate"]
    save_page(caption, make_view(), tmp_path / "a.html")
    memory = read_page(tmp_path / "a.html")[0]["items"][0]["memory"]
    belt, expected = memory["belt"], follow(caption.gates)
    for name in ("kept", "dropped", "written", "shown"):
        assert belt[name] == pytest.approx(amount(getattr(expected, name)), abs=1e-5)
    assert belt["load"][1:] == pytest.approx(np.abs(caption.gates["cell"]).mean(1), abs=1e-5)
    before, kept, dropped = (np.array(belt[name]) for name in ("load", "kept", "dropped"))
    assert kept + dropped == pytest.approx(before[:-1], abs=1e-5)
    assert (before[1:] <= kept + belt["written"] + 1e-5).all()
    assert memory["dropped"] == pytest.approx(dropped / before[:-1], abs=1e-3)


def test_the_rest_of_the_beam_is_on_the_page(tmp_path):
    others = [make_caption(["a", "</script>"], log_prob=-2.25), make_caption(["one"])]
    save_page(make_caption(alternatives=others), make_view(), tmp_path / "a.html")
    (item,) = read_page(tmp_path / "a.html")[0]["items"]
    assert item["alternatives"][0] == {"text": "a </script>", "logProb": -2.25}
    assert len(item["alternatives"]) == 2


def test_dropped_is_the_share_of_memory_that_the_forget_gate_removed(tmp_path):
    gates = {"cell": np.array([[3.0, -1.0], [9.0, 9.0]]), "forget": np.array([[0, 0], [1.0, 0.0]])}
    save_page(make_caption(["a", "b"], gates=gates), make_view(), tmp_path / "a.html")
    (item,) = read_page(tmp_path / "a.html")[0]["items"]
    assert item["memory"]["dropped"] == [None, 0.25]  # one of |3| + |−1|


def test_page_picks_the_units_that_vary_and_stays_small(tmp_path):
    words = [f"word{i}" for i in range(16)]
    caption = make_caption(words, hidden=512, grid=(14, 14))
    for name in caption.gates:
        caption.gates[name][:, 100:] = 0.5
    save_page(caption, make_view(448), tmp_path / "a.html")
    (item,) = read_page(tmp_path / "a.html")[0]["items"]
    assert item["memory"]["hidden"] == 512
    assert len(item["memory"]["units"]) == UNITS and max(item["memory"]["units"]) < 100
    assert (tmp_path / "a.html").stat().st_size < 400_000


@pytest.mark.parametrize(("words", "grid"), [(12, (14, 14)), (30, (14, 14))])
def test_ten_pictures_in_a_gallery_stay_under_a_megabyte_and_a_half(words, grid, tmp_path):
    gallery = Gallery()
    for seed in range(10):
        noise = np.random.default_rng(seed)
        alpha = noise.random((words, *grid)) ** 9
        caption = make_caption([f"word{i}" for i in range(words)], hidden=512)
        caption.alpha = alpha / alpha.sum((1, 2), keepdims=True)
        caption.alternatives = [caption] * 4
        gallery.add(caption, make_view(448))
    gallery.save(tmp_path / "index.html")
    data, attributes = read_page(tmp_path / "index.html")
    assert len(data["items"]) == 10
    assert (tmp_path / "index.html").stat().st_size < 1_500_000
    assert not [a for a in attributes if a[1] in ("src", "href", "srcset", "action", "data")]


def test_a_gallery_says_how_many_it_leaves_out(tmp_path, monkeypatch):
    monkeypatch.setattr(Gallery, "LIMIT", 2)
    gallery = Gallery()
    for word in "abc":
        gallery.add(make_caption([word]), make_view())
    gallery.save(tmp_path / "index.html")
    data, _ = read_page(tmp_path / "index.html")
    assert [item["text"] for item in data["items"]] == ["a", "b"]
    assert "the first 2 of 3 pictures" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("changes", [{"beta": None}, {"gates": {}}, {"beta": None, "gates": {}}])
def test_page_leaves_out_what_the_model_lacks(changes, tmp_path):
    save_page(make_caption(**changes), make_view(), tmp_path / "a.html")
    (item,) = read_page(tmp_path / "a.html")[0]["items"]
    assert (item["beta"] is None) == ("beta" in changes)
    assert (item["memory"] is None) == ("gates" in changes)


def test_hostile_words_and_names_stay_text(tmp_path):
    caption = make_caption(HOSTILE, image="pictures/\"><img src=x onerror='alert(1)'>\udcff.jpg")
    save_page(caption, make_view(), tmp_path / "a.html")
    save_page(make_caption(), make_view(), tmp_path / "plain.html")
    (data, attributes), (_, plain) = (read_page(tmp_path / f) for f in ("a.html", "plain.html"))
    assert attributes == plain  # not one tag or attribute more than a harmless caption has
    assert data["items"][0]["words"] == HOSTILE
    assert data["items"][0]["name"] == Path(caption.image).name


def test_arrays_come_back_without_pickle(tmp_path):
    caption = make_caption(["ein", "größerer", "крυг"])
    save_arrays(caption, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        keys = {
            "words",
            "log_probs",
            "alpha",
            "rows",
            "columns",
            "beta",
            *(f"gates_{name}" for name in GATES),
        }
        assert set(arrays) == keys
        assert arrays["words"].tolist() == caption.words
        assert arrays["alpha"].dtype == np.float32
        assert np.array_equal(arrays["alpha"], caption.alpha)
        assert arrays["rows"] == pytest.approx((np.arange(7) + 0.5) / 7)
        assert np.array_equal(arrays["gates_cell"], caption.gates["cell"])


@pytest.mark.parametrize("changes", [{"beta": None, "gates": {}}, {"words": []}])
def test_arrays_of_models_without_beta_and_of_empty_captions(changes, tmp_path):
    save_arrays(make_caption(**changes), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert ("beta" in arrays) == (changes.get("beta", 0) is not None)
        assert len(arrays["words"]) == len(arrays["alpha"])


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.npz"
    save_arrays(make_caption(), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="could not convert"):
        save_arrays(make_caption(beta=["not", "a", "number"]), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
