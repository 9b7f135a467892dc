"""One self-contained HTML page on which a reader walks through a caption word by word."""

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
from captioner.visualize.overlay import overlay_colours, reach

UNITS = 64  # rows of a gate's strip: more could not be told apart, and would swell the page
_STRIPS = ("forget", "input", "cell", "output")  # in the order in which an LSTM is explained
_HERE = Path(__file__).parent


def save_page(caption: Any, view: Image.Image, path: str | Path) -> None:
    """Write the page; it holds picture, numbers, style and script, and asks no network.

    `page.html#word=3` opens it at the third word.

    Args:
        caption: a `Caption`, or anything with its attributes. Strips whose numbers it lacks
            (`beta` None, `gates` empty) are left out.
        view: the square crop that the encoder saw, at any resolution.
    """
    data = {"items": [_item(caption, view)], "colours": _colours()}
    parts = {
        "title": html.escape(caption.text or "an empty caption"),
        "caption": html.escape(caption.text),
        "css": (_HERE / "page.css").read_text(encoding="utf-8"),
        "js": (_HERE / "page.js").read_text(encoding="utf-8"),
        "data": _script_safe(json.dumps(data, separators=(",", ":"), allow_nan=False)),
    }
    template = (_HERE / "page.html").read_text(encoding="utf-8")
    # One pass, so that a caption which spells {{data}} stays a caption.
    write_atomically(Path(path), re.sub(r"\{\{(\w+)\}\}", lambda key: parts[key[1]], template))


def _item(caption: Any, view: Image.Image) -> dict[str, Any]:
    """What the page shows of one caption, as plain JSON values."""
    steps, height, width = caption.alpha.shape
    beta = None if caption.beta is None else _rounded(caption.beta, 3)
    return {
        "name": Path(caption.image).name,
        "picture": _data_uri(view),
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
    }


def _memory(gates: dict[str, np.ndarray]) -> dict[str, Any] | None:
    """The LSTM's gates and cell state: means over all units, and the units that vary most."""
    shown = {name: np.asarray(gates[name], np.float64) for name in _STRIPS if name in gates}
    if not shown:
        return None
    units = _telling_units(shown)
    strips = {
        name: {
            "mean": _rounded(np.abs(values).mean(1), 3),
            "values": _rounded(values[:, units], 2),
            # A few units reach far beyond the rest and would leave all others grey.
            "limit": round(float(np.quantile(np.abs(values), 0.98)), 2) if name == "cell" else 1,
        }
        for name, values in shown.items()
    }
    hidden = next(iter(shown.values())).shape[1]
    return {
        "hidden": hidden,
        "units": units.tolist(),
        "strips": strips,
        "dropped": _dropped(gates),
    }


def _telling_units(shown: dict[str, np.ndarray]) -> np.ndarray:
    """Indices of up to `UNITS` units that vary most over the words, by when they peak."""
    spread = sum(values.std(0) / (values.std() + 1e-9) for values in shown.values())
    units = np.sort(np.argsort(-spread, kind="stable")[:UNITS])
    leading = shown.get("cell", next(iter(shown.values())))[:, units]
    return units[np.argsort(np.abs(leading).argmax(0), kind="stable")]


def _dropped(gates: dict[str, np.ndarray]) -> list[float | None] | None:
    """Per word the share of the memory |c_{t-1}| that its forget gate threw away.

    The first word has none: what the memory held before it is not part of a caption.
    """
    if not {"forget", "cell"} <= gates.keys():
        return None
    before = np.abs(gates["cell"][:-1])
    lost = ((1 - gates["forget"][1:]) * before).sum(1) / np.maximum(before.sum(1), 1e-9)
    return [None, *_rounded(lost, 3)]


def _colours() -> dict[str, str]:
    """256 RGBA colours each for attention, gates (0 to 1) and cell states (− to +)."""
    levels = np.linspace(0, 1, 256)
    cividis = np.round(255 * matplotlib.colormaps["cividis"](levels))
    blue, orange = (53, 123, 196), (232, 135, 30)  # told apart by the colour-blind, too
    signed = np.array([[*(blue if level < 0.5 else orange), 0] for level in levels])
    signed[:, 3] = 255 * np.abs(2 * levels - 1)  # zero shows the paper, light or dark
    tables = {"overlay": overlay_colours(), "gate": cividis, "cell": signed}
    return {name: _base64(table.astype(np.uint8).tobytes()) for name, table in tables.items()}


def _data_uri(view: Image.Image) -> str:
    file = io.BytesIO()
    view.convert("RGB").save(file, "JPEG", quality=90, subsampling=0, optimize=True)
    return f"data:image/jpeg;base64,{_base64(file.getvalue())}"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _rounded(values: np.ndarray, digits: int) -> list:
    return np.round(np.asarray(values, np.float64), digits).tolist()


def _script_safe(text: str) -> str:
    """JSON that cannot end the script element which holds it, whatever the words are."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
