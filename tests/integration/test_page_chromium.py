"""The page in a real browser: each word has its overlay, in its place, and no network is used."""

from __future__ import annotations

import base64
import io
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from captioner.grid import Grid, even
from captioner.visualize.memory import GATES, follow, shares
from captioner.visualize.overlay import overlay_colours
from captioner.visualize.page import Gallery, save_page

VIEW = Image.new("RGB", (112, 112), "teal")
PRESS = """document.activeElement.dispatchEvent(
  new KeyboardEvent("keydown", {key: "%s", bubbles: true, cancelable: true}));"""
TYPE = """document.getElementById("query").value = "%s";
document.getElementById("query").dispatchEvent(new Event("input"));"""
WAIT = "await new Promise((resolve) => setTimeout(resolve, 200));"
# Put into the head of a copy of the page: once it has loaded, notes in its markup what only a
# running browser knows. `blocked` is what the page's policy refused, `fetched` what it let pass.
PROBE = """<script>
const blocked = [];
addEventListener("securitypolicyviolation", (event) => blocked.push(event.blockedURI));
addEventListener("load", async () => {
  %s
  await new Promise((resolve) => setTimeout(resolve, 100));
  document.body.dataset.probe = JSON.stringify({
    overlay: document.getElementById("overlay").toDataURL(),
    chosen: [...document.querySelectorAll("#words [aria-current=true]")].map((e) => e.textContent),
    words: document.querySelectorAll("#words button").length,
    alt: document.getElementById("picture").alt,
    strips: [...document.querySelectorAll(".strip h2")].map((e) => e.textContent.split(" ")[0]),
    width: innerWidth,
    wide: document.documentElement.scrollWidth > innerWidth,
    fetched: performance.getEntriesByType("resource").map((e) => e.name)
      .filter((name) => !name.startsWith("data:")),
    blocked,
    cards: [...document.querySelectorAll("#cards li:not([hidden])")].map((e) => e.innerText),
    marked: [...document.querySelectorAll("#cards mark")].map((e) => e.textContent),
    found: document.getElementById("found").textContent,
    walking: document.getElementById("walk").checkVisibility(),
    browsing: document.getElementById("gallery").checkVisibility(),
    focus: document.activeElement.innerText || document.activeElement.id,
    address: location.hash,
    titles: [...document.querySelectorAll(".strip h2")].map((e) => e.textContent),
    belt: document.querySelector("svg.belt")?.getAttribute("aria-label"),
    lost: [...document.querySelectorAll(".columns.dropped span")].map((e) => e.textContent),
    gained: [...document.querySelectorAll(".columns.written span")].map((e) => e.textContent),
    facts: [...document.querySelectorAll("#facts dt")].map((e) => e.textContent),
    beam: [...document.querySelectorAll("#alternatives li")].map((e) => e.textContent),
  });
});
</script>"""


@pytest.fixture
def visit(tmp_path, browser):
    """Opens a page at a fragment, runs some script in it, and returns what the probe saw."""
    browser.open("about:blank")
    visits = itertools.count(1)

    def _visit(fragment, script="", page="page.html", size=(1200, 900)):
        probed = tmp_path / f"{next(visits)}.html"  # another fragment alone would load nothing
        text = (tmp_path / page).read_text(encoding="utf-8")
        probed.write_text(text.replace("<head>", "<head>" + PROBE % script), encoding="utf-8")
        browser.screen(*size)
        browser.send("Page.navigate", url=f"{probed.as_uri()}#{fragment}")
        browser.wait(f"location.pathname.endsWith('/{probed.name}') && document.body.dataset.probe")
        return json.loads(browser.run("document.body.dataset.probe"))

    return _visit


def make_caption(words=("a", "red", "circle", "</script>"), **changes):
    """Word t looks at cell (t, 2 t) of a 7 × 7 grid, and nowhere else."""
    noise = np.random.default_rng(0)
    alpha = np.zeros((len(words), 7, 7), np.float32)
    for step in range(len(words)):
        alpha[step, step % 7, 2 * step % 7] = 1
    attributes = {
        "image": "scene.png",
        "text": " ".join(words),
        "words": list(words),
        "log_prob": -1.0,
        "word_log_probs": -noise.random(len(words)),
        "alpha": alpha,
        "centres": even((7, 7)),
        "beta": noise.random(len(words)),
        "gates": {n: noise.random((len(words), 8)) for n in ("input", "forget", "output", "cell")},
        "alternatives": [],
    }
    return SimpleNamespace(**attributes | changes)


def make_page(path, *words, **changes):
    save_page(make_caption(*words, **changes), VIEW, path)


def make_gallery(path, *captions, **changes):
    gallery = Gallery()
    for number, caption in enumerate(captions):
        gallery.add(make_caption(caption.split(), image=f"{number}.png", **changes), VIEW)
    gallery.save(path)


def all_gates(steps, units=8):
    """All six, in (0, 1)."""
    noise = np.random.default_rng(1)
    return {name: noise.random((steps, units)) for name in GATES}


def clearness(probe):
    """How much of the picture the overlay lets through, per pixel, from 0 to 1."""
    content = base64.b64decode(probe["overlay"].partition(",")[2])
    opacity = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))[..., 3].astype(float)
    low, high = overlay_colours()[[0, -1], 3].astype(float)
    return (low - opacity) / (low - high)


def test_the_overlay_follows_the_word(tmp_path, visit):
    make_page(tmp_path / "page.html")
    first, third = visit("word=1"), visit("word=3")
    assert first["chosen"] == ["a"] and third["chosen"] == ["circle"]
    assert first["overlay"] != third["overlay"]
    assert first["words"] == 4 and "circle" in first["alt"] and not first["wide"]
    assert first["strips"] == ["Where", "How", "β:", "What", "Forget", "Input", "Cell", "Output"]


@pytest.mark.parametrize("step", [0, 2])
def test_the_browser_lights_the_cell_s_own_square(step, tmp_path, visit):
    make_page(tmp_path / "page.html")
    clear = clearness(visit(f"word={step + 1}"))
    rows, columns = np.nonzero(clear > 0.6)
    side = clear.shape[0] / 7
    assert step * side <= rows.min() < rows.max() < (step + 1) * side
    assert 2 * step * side <= columns.min() < columns.max() < (2 * step + 1) * side


def test_cells_as_they_are(tmp_path, visit):
    make_page(tmp_path / "page.html")
    clear = clearness(visit("word=3", 'document.getElementById("cells").click();'))
    assert clear.shape == (7, 7) and clear[2, 4] == 1 and clear.sum() == 1


def test_off_centre_cells_are_drawn_where_they_stand(tmp_path, visit):
    """Of MobileNetV2: the cell (2, 4) lies around pixel (64, 128) of 224."""
    make_page(tmp_path / "page.html", centres=Grid(7, 7, 32, 0.5, 224).centres)
    clear = clearness(visit("word=3"))
    rows, columns = np.nonzero(clear > 0.6)
    scale = 224 / clear.shape[0]
    assert rows.mean() * scale == pytest.approx(64, abs=2)
    assert columns.mean() * scale == pytest.approx(128, abs=2)
    script = """document.getElementById("cells").click();
        const style = document.getElementById("overlay").style;
        document.getElementById("picture").alt = [style.left, style.width].join(" ");"""
    probe = visit("word=3", script)
    clear = clearness(probe)
    assert clear.shape == (8, 8) and clear[2, 4] == 1 and clear.sum() == 1  # the last ones twice
    left, width = (float(part.rstrip("%")) * 2.24 for part in probe["alt"].split())
    assert left == pytest.approx(0.5 - 16, abs=0.01) and width == pytest.approx(8 * 32, abs=0.01)


def test_keys_walk_through_the_words(tmp_path, visit):
    make_page(tmp_path / "page.html")
    press = 'document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "%s", bubbles: true}));'
    assert visit("word=2", press % "ArrowRight")["chosen"] == ["circle"]
    assert visit("word=2", press % "End")["chosen"] == ["</script>"]
    assert visit("word=2", press % "Home")["chosen"] == ["a"]


def test_a_bare_model_and_an_empty_caption_show(tmp_path, visit):
    make_page(tmp_path / "bare.html", beta=None, gates={})
    bare = visit("word=9", page="bare.html")
    assert bare["chosen"] == ["</script>"]  # a word too far is the last
    assert bare["strips"] == ["Where", "How"]
    make_page(tmp_path / "empty.html", words=())
    assert visit("", page="empty.html")["words"] == 0


def test_nothing_is_asked_of_a_network(tmp_path, visit):
    make_page(tmp_path / "page.html")
    quiet = visit("word=1")
    assert quiet["fetched"] == quiet["blocked"] == []
    # The probe would have told, and so would the page's policy have refused:
    picture = "http://example.invalid/pixel.png"
    assert visit("word=1", f'new Image().src = "{picture}";')["blocked"] == [picture]


def test_pointing_at_a_word_shows_it_and_leaving_goes_back(tmp_path, visit):
    make_page(tmp_path / "page.html")
    third, second = visit("word=3"), visit("word=2")
    point = """document.querySelectorAll("#words button")[1].dispatchEvent(
      new PointerEvent("pointermove", {bubbles: true, pointerType: "mouse"}));"""
    leave = 'document.getElementById("words").dispatchEvent(new PointerEvent("pointerleave"));'
    pointed, left = visit("word=3", point), visit("word=3", point + leave)
    assert pointed["overlay"] == second["overlay"] and pointed["chosen"] == ["red"]
    assert left["overlay"] == third["overlay"] and left["chosen"] == ["circle"]


def test_the_belt_says_what_was_dropped_and_written(tmp_path, visit):
    gates = all_gates(4)
    make_page(tmp_path / "page.html", gates=gates)
    seen = visit("word=1")
    lost, gained = shares(follow(gates))
    for shown, expected in ((seen["lost"], lost), (seen["gained"], gained)):
        shares_shown = [float(text[1:].rstrip(" %")) for text in shown]
        assert shares_shown == pytest.approx(100 * expected, abs=0.6)
    assert seen["belt"].startswith("The belt: a, dropped ") and "circle, dropped" in seen["belt"]
    assert seen["titles"][3:] == [
        *("The conveyor belt", "Forget gate f", "Input gate i", "Candidate g"),
        *("Cell state c", "Output gate o", "Hidden state h"),
    ]
    assert {"Dropped", "Written"} <= set(seen["facts"])


def test_a_gru_has_its_own_names_and_the_beam_its_other_captions(tmp_path, visit):
    gates = all_gates(4)
    gates |= {"hidden": gates["cell"], "input": 1 - gates["forget"]}
    others = [make_caption(["other"], log_prob=-2.5), make_caption([], log_prob=-3)]
    make_page(tmp_path / "page.html", gates=gates, alternatives=others)
    seen = visit("word=1")
    assert {"Update gate f", "Reset gate r", "Hidden state h = c"} <= set(seen["titles"])
    assert seen["beam"] == ["other log −2.50", "(a caption without words) log −3.00"]


def test_a_gallery_is_searched_by_the_beginnings_of_words(tmp_path, visit):
    make_gallery(tmp_path / "page.html", "a red circle", "a bored dog", "two red dogs", "")
    everything, red, both = visit(""), visit("", TYPE % "RED"), visit("", TYPE % "do red")
    assert everything["browsing"] and not everything["walking"] and not everything["wide"]
    assert (len(everything["cards"]), everything["found"]) == (4, "4 pictures")
    assert [card.split("\n")[-1] for card in red["cards"]] == ["0.png", "2.png"]
    assert red["marked"] == ["red", "red"] and red["found"] == "2 of 4 pictures"
    assert [card.split("\n")[-1] for card in both["cards"]] == ["2.png"]
    assert both["marked"] == ["red", "dogs"]
    assert visit("", TYPE % "cat")["found"] == "0 of 4 pictures"
    assert everything["fetched"] == everything["blocked"] == []


def test_a_picture_found_opens_at_the_word_and_escape_comes_back(tmp_path, visit):
    make_gallery(tmp_path / "page.html", "a dog", "a red circle", "a ring")
    find = TYPE % "red" + 'document.querySelector("#cards li:not([hidden]) a").click();' + WAIT
    opened, direct = visit("", find), visit("image=2&word=2")
    assert opened["walking"] and not opened["browsing"]
    assert opened["chosen"] == ["red"] and opened["address"] == "#image=2&word=2"
    assert opened["overlay"] == direct["overlay"]
    onwards = visit("", find + PRESS % "ArrowRight")
    assert onwards["chosen"] == ["circle"] and onwards["address"] == "#image=2&word=3"
    back = visit("image=2&word=2", PRESS % "Escape")
    assert back["browsing"] and not back["walking"] and len(back["cards"]) == 3
    assert back["focus"].startswith("a red circle")  # where the keyboard had been


def test_each_picture_has_its_own_words_and_only_one_listens(tmp_path, visit):
    make_gallery(tmp_path / "page.html", "a dog", "one red circle", "")
    click = (
        '[...document.querySelectorAll("#around a")].find((a) => a.textContent === "%s").click();'
    )
    there_and_back = click % "Next" + WAIT + click % "Previous" + WAIT + click % "Next" + WAIT
    seen = visit("image=1&word=1", there_and_back + PRESS % "ArrowRight")
    assert seen["words"] == 3 and seen["chosen"] == ["red"]  # not two words on
    assert visit("image=2&word=1", click % "Next" + WAIT)["words"] == 0
    assert visit("image=9")["browsing"]


def test_slash_goes_to_the_search(tmp_path, visit):
    make_gallery(tmp_path / "page.html", "a dog", "a ring")
    assert visit("", PRESS % "/")["focus"] == "query"


@pytest.mark.parametrize("fragment", ["", "image=2&word=3"])
def test_a_narrow_screen_is_wide_enough(fragment, tmp_path, visit):
    sentence = "a rather long caption with quite a few words to walk through on a phone"
    make_gallery(tmp_path / "page.html", sentence, sentence, gates=all_gates(15))
    seen = visit(fragment, size=(390, 844))
    assert seen["width"] == 390 and not seen["wide"]
