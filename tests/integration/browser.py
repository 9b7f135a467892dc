"""A headless Chromium that is told what to do, over the DevTools protocol's pipe."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-sync", "--disable-background-networking", "--disable-component-update"),
    *("--disable-default-apps", "--disable-dev-shm-usage", "--window-size=1280,1000"),
    # Whatever happens, nothing leaves this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


class Browser:
    """One page at a time. RuntimeError for what it refuses, TimeoutError for what does not come."""

    def __init__(self, profile: Path):
        to_browser, to_us = os.pipe(), os.pipe()
        ends = (to_browser[0], to_us[1])  # Chromium has them as its descriptors 3 and 4
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe"]
        shell = f'exec "$@" 3<&{ends[0]} 4>&{ends[1]}'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *command, "about:blank"],
            pass_fds=ends,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in ends:
            os.close(end)
        self.orders, self.answers = open(to_browser[1], "wb"), open(to_us[0], "rb")  # noqa: SIM115, PTH123
        self.numbers, self.page = itertools.count(1), None
        self.open("about:blank")

    def open(self, address: str) -> None:
        """Goes on with a new page, of the browser's own size."""
        self.session: str | None = None
        self.requests: list[str] = []  # addresses that the page asked for
        left, self.page = self.page, self.send("Target.createTarget", url="about:blank")["targetId"]
        if left:
            self.send("Target.closeTarget", targetId=left)
        attached = self.send("Target.attachToTarget", targetId=self.page, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "DOM", "Network"):
            self.send(f"{domain}.enable")
        self.send("Page.navigate", url=address)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self.numbers)
        order = {"id": number, "method": method, "params": parameters}
        if self.session:
            order["sessionId"] = self.session
        self.orders.write(json.dumps(order).encode() + b"\0")
        self.orders.flush()
        while True:
            message = json.loads(self._read())
            asked = message.get("method") == "Network.requestWillBeSent"
            if asked and message["sessionId"] == self.session:
                self.requests.append(message["params"]["request"]["url"])
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]

    def _read(self) -> bytes:
        content = bytearray()
        while (byte := self.answers.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser has gone")
            content += byte
        return bytes(content)

    def run(self, script: str) -> Any:
        """The value of an expression of JavaScript."""
        result = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> None:
        """Until an expression is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.run(f"(() => {{ try {{ return !!({script}) }} catch {{ }} }})()"):
                return
            time.sleep(0.05)
        raise TimeoutError(f"not within {seconds} seconds: {script}")

    def upload(self, selector: str, path: Path) -> None:
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def mouse(self, x: float, y: float, kind: str = "mouseMoved") -> None:
        pressed = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **pressed)

    def key(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key)

    def screen(self, width: int, height: int, phone: bool = False) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=phone,
        )  # fmt: skip

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.orders.close()
        self.answers.close()
