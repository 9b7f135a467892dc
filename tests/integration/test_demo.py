"""The demo in a real browser: a picture is sent, its caption read, a word pointed at."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser
from helpers import needs
from tiny import build_tiny, write_picture

from captioner.captioner import Captioner
from captioner.config import DemoOptions, SearchOptions

pytestmark = needs("gradio")

SEARCH = SearchOptions(width=3, min_length=3, max_length=6)
FRAME = "document.querySelector('.attention iframe')"
WORDS = f"[...{FRAME}.contentDocument.querySelectorAll('#words button')]"
OVERLAY = f"{FRAME}.contentDocument.getElementById('overlay').toDataURL()"
CHOSEN = f"{WORDS}.filter((e) => e.getAttribute('aria-current') === 'true')[0].textContent"
REMOVE = "document.querySelector('button[aria-label=\"Remove Image\"]')"
TEXT = "document.body.innerText"
WAIT = 120  # seconds, on a machine that is busy with other things


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    folder = build_tiny().save(tmp_path_factory.mktemp("run") / "best")
    return Captioner.load(folder, "cpu", SEARCH)


@pytest.fixture(scope="module")
def address(captioner: Captioner) -> Iterator[str]:
    from captioner.demo import serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = DemoOptions(checkpoint="x", port=port, examples=2, megabytes=1, search=SEARCH)
    page = serve(captioner, options)
    with pytest.raises(ValueError, match=f"port {port} is taken"):
        serve(captioner, options)
    yield f"http://127.0.0.1:{port}/"
    page.close()


def send(browser: Browser, path: Path) -> None:
    browser.wait("document.querySelector('input[type=file]')", WAIT)
    browser.upload("input[type=file]", path)


def test_upload_read_and_point_at_a_word(
    browser: Browser, address: str, captioner: Captioner, tmp_path: Path
):
    picture = write_picture(tmp_path / "a.png")
    expected = captioner(picture)
    browser.open(address)
    send(browser, picture)
    browser.wait(f"{WORDS}.length > 2", WAIT)
    assert browser.run(f"{WORDS}.map((e) => e.textContent)") == expected.words
    labels = browser.run(TEXT)
    for each in (expected, *expected.alternatives):
        assert each.text in labels
    before = browser.run(OVERLAY)
    assert browser.run(CHOSEN) == expected.words[0]
    browser.run(f"{WORDS}[1].scrollIntoView({{block: 'center'}})")
    x, y = browser.run(
        f"(() => {{ const f = {FRAME}.getBoundingClientRect(),"
        f" w = {WORDS}[1].getBoundingClientRect();"
        " return [f.left + w.left + w.width / 2, f.top + w.top + w.height / 2]; })()"
    )
    browser.mouse(x, y)
    browser.wait(f"{WORDS}[1].getAttribute('aria-current') === 'true'", WAIT)
    assert browser.run(OVERLAY) != before
    browser.run(f"{WORDS}[1].click()")  # as a tap does
    browser.run(f"{WORDS}[1].focus()")
    browser.key("ArrowRight")
    browser.wait(f"{WORDS}[2].getAttribute('aria-current') === 'true'", WAIT)

    browser.run(f"[...document.querySelectorAll('label')].find((e) => e.innerText.includes("
                f"{expected.alternatives[0].text!r} + ' ·')).click()")  # fmt: skip
    browser.wait(
        f"{WORDS}.map((e) => e.textContent).join(' ') === {expected.alternatives[0].text!r}", WAIT
    )
    browser.screen(390, 844, phone=True)
    browser.wait("document.documentElement.scrollWidth <= 390", WAIT)
    browser.picture(tmp_path / "phone.png")
    ours = (address, "data:", "blob:", "about:")
    assert [each for each in browser.requests if not each.startswith(ours)] == []


def test_a_damaged_upload_is_told_and_the_next_one_works(
    browser: Browser, address: str, captioner: Captioner, tmp_path: Path
):
    browser.open(address)
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(write_picture(tmp_path / "a.png").read_bytes()[:200])
    send(browser, damaged)
    browser.wait(f"{TEXT}.includes('this picture: ')", WAIT)
    text = browser.run(TEXT)
    assert "damaged" in text
    assert "Traceback" not in text and "/tmp" not in text and str(tmp_path) not in text
    browser.run(f"{REMOVE}.click()")
    browser.wait(f"!{REMOVE}", WAIT)
    send(browser, tmp_path / "a.png")
    browser.wait(f"{WORDS}.length > 2", WAIT)
    expected = captioner(tmp_path / "a.png").words
    assert browser.run(f"{WORDS}.map((e) => e.textContent)") == expected


def test_settings_that_do_not_go_together_are_told_without_a_path(
    captioner: Captioner, tmp_path: Path
):
    from gradio import Error

    from captioner.demo import Demo

    picture = str(write_picture(tmp_path / "a.png"))
    settings = {**vars(SEARCH), "min_length": 9}
    with pytest.raises(Error, match=r"search\.min_length is 9, more than the 6 words"):
        Demo(captioner).answer(picture, *settings.values())
    with pytest.raises(Error, match=r"^'this picture: no such file or directory'$"):
        Demo(captioner).answer(str(tmp_path / "gone.png"), *vars(SEARCH).values())
    assert captioner.options == SEARCH
