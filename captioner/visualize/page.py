"""Self-contained HTML pages on which a reader walks through captions word by word."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from captioner.files import write_atomically
from captioner.visualize.memory import (
    BELT_NOTES,
    Memory,
    amount,
    cell_limit,
    explain,
    follow,
    shares,
    signed_colours,
    telling_units,
)
from captioner.visualize.overlay import overlay_colours, reach

UNITS = 48  # rows of a gate's strip: more could not be told apart, and would swell the page
_STRIPS = ("forget", "input", "candidate", "cell", "output")  # as an LSTM is explained
_SCRIPTS = ("page.js", "memory.js", "gallery.js")
_ALONE, _AMONG_MANY = (448, 90), (320, 78)  # pixels and JPEG quality of a page's picture
_HERE = Path(__file__).parent


def save_page(caption: Any, view: Image.Image, path: str | Path) -> None:
    """Write a caption's page; it holds picture, numbers, style and script, and asks no network.

    `page.html#word=3` opens it at the third word.

    Args:
        caption: a `Caption`, or anything with its attributes. Strips whose numbers it lacks
            (`beta` None, `gates` empty) are left out.
        view: the square crop that the encoder saw, at any resolution.
    """
    _write([_item(caption, view, *_ALONE)], caption.text or "an empty caption", path)


class Gallery:
    """Captions that go into one page, with a search over them: the first `LIMIT` that are added.

    Ten captions make less than 1.5 MB. `page.html#image=2&word=3` opens the page at the third word
    of the second picture.
    """

    LIMIT = 100  # more would make a page of 10 MB

    def __init__(self) -> None:
        self._items: list[dict[str, Any]] = []
        self.added = 0

    def add(self, caption: Any, view: Image.Image) -> None:
        """Caption and view are as `save_page` has them; neither is kept."""
        self.added += 1
        if self.added <= self.LIMIT:
            self._items.append(_item(caption, view, *_AMONG_MANY))

    def save(self, path: str | Path) -> None:
        shown = len(self._items)
        few = f"the first {shown} of {self.added}" if shown < self.added else f"{shown}"
        _write(self._items, f"{few} pictures and their captions", path)


def _write(items: list[dict[str, Any]], title: str, path: str | Path) -> None:
    data = {"items": items, "colours": _colours(), "beltNotes": BELT_NOTES}
    read = {name: (_HERE / name).read_text(encoding="utf-8") for name in ("page.css", *_SCRIPTS)}
    parts = {
        "title": html.escape(title),
        "caption": html.escape(items[0]["text"]),
        "css": read["page.css"],
        "js": "\n".join(read[name] for name in _SCRIPTS),
        "data": _script_safe(json.dumps(data, separators=(",", ":"), allow_nan=False)),
    }
    template = (_HERE / "page.html").read_text(encoding="utf-8")
    # One pass, so that a caption which spells {{data}} stays a caption.
    write_atomically(Path(path), re.sub(r"\{\{(\w+)\}\}", lambda key: parts[key[1]], template))


def _item(caption: Any, view: Image.Image, pixels: int, quality: int) -> dict[str, Any]:
    """What the page shows of one caption, as plain JSON values."""
    steps, height, width = caption.alpha.shape
    beta = None if caption.beta is None else _rounded(caption.beta, 3)
    return {
        "name": Path(caption.image).name,
        "picture": _data_uri(view, pixels, quality),
        "text": caption.text,
        "words": list(caption.words),
        "logProb": round(float(caption.log_prob), 3),
        "wordLogProbs": _rounded(caption.word_log_probs, 4),
        "alpha": {
            "height": height,
            "width": width,
            "down": _rounded(reach(caption.centres.rows), 5),
            "across": _rounded(reach(caption.centres.columns), 5),
            "values": _rounded(caption.alpha.reshape(steps, height * width), 6),
        },
        "beta": beta,
        "memory": _memory(caption.gates) if steps else None,
        "alternatives": [
            {"text": other.text, "logProb": round(float(other.log_prob), 3)}
            for other in caption.alternatives
        ],
    }


def _memory(gates: dict[str, np.ndarray]) -> dict[str, Any] | None:
    """The LSTM's gates and cell state: means over all units, and the units that vary most."""
    shown = {name: np.asarray(gates[name], np.float64) for name in _STRIPS if name in gates}
    if not shown:
        return None
    units = telling_units({"cell": shown["cell"], **shown} if "cell" in shown else shown, UNITS)
    memory = follow(gates)
    return {
        "hidden": next(iter(shown.values())).shape[1],
        "units": units.tolist(),
        "strips": {name: _strip(name, values, units) for name, values in shown.items()},
        "dropped": _dropped(gates, memory),
        "belt": None if memory is None else _belt(memory),
        "texts": explain(memory),
    }


def _strip(name: str, values: np.ndarray, units: np.ndarray) -> dict[str, Any]:
    limit = round(cell_limit(values), 2) if name == "cell" else 1
    return {
        "mean": _rounded(np.abs(values).mean(1), 3),
        "values": _rounded(values[:, units], 2),
        "limit": limit,
        "low": -limit if name in ("cell", "candidate") else 0,
    }


def _belt(memory: Memory) -> dict[str, list[float]]:
    """Amounts on the belt, T of each but T + 1 of `load`, and how much of it was new."""
    flows = {"load": np.concatenate([memory.before[:1], memory.cell])}
    flows |= {name: getattr(memory, name) for name in ("kept", "dropped", "written", "shown")}
    amounts = {name: _rounded(amount(values), 6) for name, values in flows.items()}
    return amounts | {"gained": _rounded(shares(memory)[1], 3)}


def _dropped(gates: dict[str, np.ndarray], memory: Memory | None) -> list[float | None] | None:
    """Per word the share of the memory |c_{t-1}| that its forget gate threw away.

    The first word has none where the gates don't tell what the memory held before it.
    """
    if memory is not None:
        return _rounded(shares(memory)[0], 3)
    if not {"forget", "cell"} <= gates.keys():
        return None
    before = np.abs(gates["cell"][:-1])
    lost = ((1 - gates["forget"][1:]) * before).sum(1) / np.maximum(before.sum(1), 1e-9)
    return [None, *_rounded(lost, 3)]


def _colours() -> dict[str, str]:
    """256 RGBA colours each for attention, gates (0 to 1) and cell states (− to +)."""
    levels = np.linspace(0, 1, 256)
    cividis = np.round(255 * matplotlib.colormaps["cividis"](levels))
    tables = {"overlay": overlay_colours(), "gate": cividis, "signed": signed_colours()}
    return {name: _base64(table.astype(np.uint8).tobytes()) for name, table in tables.items()}


def _data_uri(view: Image.Image, pixels: int, quality: int) -> str:
    small = view.convert("RGB")
    small.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
    file, subsampling = io.BytesIO(), 0 if quality >= 90 else 2
    small.save(file, "JPEG", quality=quality, subsampling=subsampling, optimize=True)
    return f"data:image/jpeg;base64,{_base64(file.getvalue())}"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _rounded(values: np.ndarray, digits: int) -> list:
    return np.round(np.asarray(values, np.float64), digits).tolist()


def _script_safe(text: str) -> str:
    """JSON that cannot end the script element which holds it, whatever the words are."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
