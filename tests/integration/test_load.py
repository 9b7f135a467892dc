"""Many clients, many pictures: nothing but "busy", and no more memory or files than at the start.

In small; `CLIENTS=50 SECONDS=60` and `IMAGES=20000` are what docs/reliability.md reports, printed
with pytest's -s.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from threading import get_ident

import pytest
from clients import Client, crowd, resident, served
from helpers import needs
from PIL import Image
from tiny import build_tiny, write_picture

from captioner import demo
from captioner.captioner import Captioner
from captioner.config import SearchOptions
from captioner.data.images import ImageError

pytestmark = [
    needs("gradio"),
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc"),
]

CLIENTS, SECONDS = int(os.environ.get("CLIENTS", 6)), float(os.environ.get("SECONDS", 3))
IMAGES = int(os.environ.get("IMAGES", 400))
SEARCH = SearchOptions(width=2, min_length=2, max_length=4)
SETTINGS = list(vars(SEARCH).values())
FILES_OPEN = Path("/proc/self/fd")
GROWTH = 40e6  # bytes: an allocator's own ups and downs, which do not grow with the work


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    folder = build_tiny().save(tmp_path_factory.mktemp("run") / "best")
    return Captioner.load(folder, "cpu", SEARCH)


def test_a_crowd_gets_captions_or_is_told_to_wait(captioner: Captioner, tmp_path: Path):
    picture = write_picture(tmp_path / "a.png")
    with served(captioner, queue=4, rate=1_000_000) as address:
        answers, memory = crowd(address, CLIENTS, SECONDS, picture, SETTINGS)
    print(f"{CLIENTS} clients, {SECONDS:g} s: {dict(answers)}; MB {[m // 10**6 for m in memory]}")
    assert answers["captioned"] > 0 and answers.keys() <= {"captioned", "busy"}
    assert memory[-1] - memory[0] < GROWTH


def test_one_thread_captions_whoever_asks(captioner: Captioner, tmp_path: Path, monkeypatch):
    """What each of many threads keeps of memory would add up: see `Demo`."""
    page, threads = demo.Demo(captioner), set()
    monkeypatch.setattr(demo, "view", lambda *_: threads.add(get_ident()))
    monkeypatch.setattr(demo, "frame", lambda *_: "")
    picture = str(write_picture(tmp_path / "a.png"))
    with ThreadPoolExecutor(3) as several:
        asked = [several.submit(page.answer, picture, *SETTINGS) for _ in range(6)]
        assert all(len(each.result()[2]) == SEARCH.width for each in asked)
    assert len(threads) == 1


def test_many_pictures_leave_memory_and_files_as_they_were(captioner: Captioner, tmp_path: Path):
    pictures = [write_picture(tmp_path / f"{n}.png", n, (40 + n, 30)) for n in range(5)]
    pictures += [write_picture(tmp_path / "a.jpg"), tmp_path / "damaged.png", tmp_path / "gone"]
    pictures[-2].write_bytes(pictures[0].read_bytes()[:99])
    answers = captioner.stream(islice(cycle(pictures), IMAGES), batch=16)
    failed, began = 0, time.monotonic()
    for number, answer in enumerate(answers):
        failed += isinstance(answer, ImageError)
        if number == IMAGES // 5:
            before, files = resident(), len(list(FILES_OPEN.iterdir()))
    grown = resident() - before
    print(f"{IMAGES} pictures, {failed} unreadable, {time.monotonic() - began:.0f} s: {grown} B")
    assert failed == IMAGES // 4
    assert grown < GROWTH and len(list(FILES_OPEN.iterdir())) == files


# What the demo lets in, gives out and keeps.


def test_a_rate_is_of_the_last_minute_and_of_each_caller():
    now = [0.0]
    rate = demo.Rate(2, lambda: now[0])
    allowed = []
    for time_, caller in ((0, "a"), (30, "a"), (40, "a"), (40, "b"), (61, "a"), (62, "a")):
        now[0] = time_
        allowed.append(rate.allows(caller))
    assert allowed == [True, True, False, True, True, False]
    now[0] = 200
    assert rate.allows("c") and rate.calls.keys() == {"c"}  # and nobody else is remembered


def test_what_is_too_large_or_too_often_is_refused(captioner: Captioner, tmp_path: Path):
    heavy, wide = tmp_path / "heavy.png", tmp_path / "wide.png"
    heavy.write_bytes(bytes(1_200_000))
    Image.new("RGB", (1001, 1000)).save(wide)
    with served(captioner, megabytes=1, megapixels=1, rate=2) as address:
        client = Client(address)
        refused = client.upload(heavy)
        assert refused.status_code == 413 and "maximum allowed size" in refused.text
        said = "this picture: 1001×1000 pixels are too many; at most 1,000,000"
        picture = write_picture(tmp_path / "a.png")
        answers = [client.caption(each, SETTINGS) for each in (wide, picture, picture)]
        assert answers == [said, "captioned", "busy"]


def test_no_answer_tells_a_path_or_a_traceback(captioner: Captioner, tmp_path: Path, monkeypatch):
    broken = write_picture(tmp_path / "a.png")
    broken.write_bytes(broken.read_bytes()[:200])
    with served(captioner) as address:
        client = Client(address)
        said = [client.caption(broken, SETTINGS)]
        for path in ("/etc/passwd", "../../etc/passwd", "README.md", "", "nul\0"):
            said += [client.ask(path, SETTINGS)]
            said += [client.http.get(f"/gradio_api/file={path}".replace("\0", "%00")).text]
        said += [client.ask(client.upload(broken, "../../evil.png").json()[0], SETTINGS)]
        said += [client.http.post("/gradio_api/queue/join", content=b"{").text]

        def fail(*_: object) -> None:
            raise RuntimeError(f"inside of {__file__}")

        monkeypatch.setattr(demo, "view", fail)
        said += [client.caption(write_picture(tmp_path / "b.png"), SETTINGS)]
        said += [client.http.get("/config").text]
    assert "damaged" in said[0] and "captioned" not in said
    for text in said:
        assert not [
            word for word in ("Traceback", "root:", __file__, str(tmp_path)) if word in text
        ]


def test_uploads_are_removed_after_a_while(captioner: Captioner, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(demo, "CLEANING", (1, 1))
    picture = write_picture(tmp_path / "a.png")
    with served(captioner) as address:
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        client = Client(address)
        sent = Path(client.upload(picture, "../../../a.png").json()[0])
        assert folder in sent.resolve().parents and sent.exists()
        assert client.ask(str(sent), SETTINGS) == "captioned"
        stop = time.monotonic() + 30
        while sent.exists() and time.monotonic() < stop:
            time.sleep(0.2)
        assert not sent.exists()
        assert list(folder.rglob("scene-1.png"))  # the example is still there
