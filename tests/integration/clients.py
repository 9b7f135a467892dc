"""Clients of the demo that speak as its page does, many at a time.

`crowd` runs this file, for clients in the demo's own process would count as its memory.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:  # torch's import takes seconds, and clients don't need it
    from captioner.captioner import Captioner


@contextmanager
def served(captioner: Captioner, **options: object) -> Iterator[str]:
    """The address of a demo that is there as long as the block lasts."""
    from captioner.config import DemoOptions
    from captioner.demo import serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"examples": 1, "search": captioner.options, **options}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", "")  # is put back behind
        page = serve(captioner, DemoOptions(checkpoint="x", port=port, **given))
        yield f"http://127.0.0.1:{port}"
        page.close()


class Client:
    """A page in some browser."""

    def __init__(self, address: str):
        self.http = httpx.Client(base_url=address, timeout=60)
        self.session = uuid.uuid4().hex
        page = self.http.get("/config").json()
        calls = [each for each in page["dependencies"] if len(each["inputs"]) > 2]
        self.call, self.trigger = calls[0]["id"], calls[0]["targets"][0][0]

    def upload(self, picture: Path, name: str = "a.png") -> httpx.Response:
        files = {"files": (name, picture.read_bytes())}
        return self.http.post("/gradio_api/upload", files=files)

    def ask(self, path: str, settings: list[Any]) -> str:
        """`captioned`, `busy`, or what else was answered."""
        body = {
            "data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, *settings],
            "fn_index": self.call,
            "trigger_id": self.trigger,
            "session_hash": self.session,
        }
        joined = self.http.post("/gradio_api/queue/join", json=body)
        if joined.status_code == 503 and "full" in joined.text:
            return "busy"
        if joined.status_code != 200:
            return joined.text
        where = f"/gradio_api/queue/data?session_hash={self.session}"
        with self.http.stream("GET", where) as events:
            for line in events.iter_lines():
                told = json.loads(line.removeprefix("data: ")) if line else {}
                if told.get("msg") == "process_completed":
                    if told["success"]:
                        return "captioned"
                    said = str(told["output"].get("error"))
                    return "busy" if said.startswith("busy") else said
        return "no answer"

    def caption(self, picture: Path, settings: list[Any]) -> str:
        """As `ask`, of a picture that is sent first. settings: the values of `SearchOptions`."""
        return self.ask(self.upload(picture).json()[0], settings)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def crowd(
    address: str, clients: int, seconds: float, picture: Path, settings: list[Any]
) -> tuple[Counter, list[int]]:
    """What so many clients were answered in that time, and this process's memory, eleven times.

    Time begins when each has had a caption, so that all that is kept for a client is there.
    """
    given = json.dumps([address, clients, seconds, str(picture), settings])
    command, memory = [sys.executable, __file__, given], []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout.readline() == "all are there\n"
        for _ in range(11):
            memory.append(resident())
            time.sleep(seconds / 10)
        answers = Counter(json.loads(running.stdout.read()))
    return answers, memory


def _crowd(
    address: str, clients: int, seconds: float, picture: str, settings: list[Any]
) -> Counter:
    """Prints a line when each has had a caption; returns how often each answer came from then."""
    answers, ready = Counter(), threading.Barrier(clients + 1)

    def ask(client: Client) -> str:
        answer = client.caption(Path(picture), settings)
        if answer == "busy":
            time.sleep(0.2)
        return answer

    def work() -> None:
        try:
            client = Client(address)
            while (answer := ask(client)) == "busy":
                pass
            assert answer == "captioned", answer
            ready.wait()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                answers[ask(client)] += 1
        except Exception as error:
            ready.abort()
            answers[repr(error)] += 1

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    ready.wait()
    print("all are there", flush=True)
    for thread in threads:
        thread.join()
    return answers


if __name__ == "__main__":
    print(json.dumps(_crowd(*json.loads(sys.argv[1]))))
