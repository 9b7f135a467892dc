"""The page in a real browser: each word has its overlay, in its place, and no network is used."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from captioner.grid import Grid, even
from captioner.visualize.overlay import overlay_colours
from captioner.visualize.page import save_page

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-sync", "--disable-background-networking", "--disable-component-update"),
    *("--disable-default-apps", "--disable-dev-shm-usage", "--window-size=1200,900"),
    "--host-resolver-rules=MAP * ~NOTFOUND",  # whatever happens, nothing leaves this machine
]
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
    wide: document.documentElement.scrollWidth > innerWidth,
    fetched: performance.getEntriesByType("resource").map((e) => e.name)
      .filter((name) => !name.startsWith("data:")),
    blocked,
  });
});
</script>"""

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: apt install chromium")


@pytest.fixture
def visit(tmp_path):
    """Opens a page at a fragment, runs some script in it, and returns what the probe saw."""

    def _visit(fragment, script="", page="page.html"):
        probed = tmp_path / "probed.html"
        text = (tmp_path / page).read_text(encoding="utf-8")
        probed.write_text(text.replace("<head>", "<head>" + PROBE % script), encoding="utf-8")
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
        command += ["--virtual-time-budget=5000", f"{probed.as_uri()}#{fragment}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
        probe = re.search(r'data-probe="([^"]*)"', done.stdout)
        assert probe, f"the page's script did not run: {done.stderr[-2000:]}"
        return json.loads(html.unescape(probe[1]))

    return _visit


def make_page(path, words=("a", "red", "circle", "</script>"), **changes):
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
    }
    view = Image.new("RGB", (112, 112), "teal")
    save_page(SimpleNamespace(**attributes | changes), view, path)


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
