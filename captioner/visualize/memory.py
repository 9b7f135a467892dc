"""What the memory went through at each word: kept, dropped, written and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_CELL, _HIDDEN = (
    equation.replace(" ", "\u00a0")  # so that none is broken over two lines
    for equation in ("cₜ = f ⊙ cₜ₋₁ + i ⊙ g", "hₜ = o ⊙ tanh cₜ")
)
BELT_NOTES = (
    "Below: the share of the memory that was dropped.",
    "Above: what was written, as a share of that and what was kept.",
)
GATES = ("forget", "input", "candidate", "cell", "output", "hidden")


@dataclass(frozen=True)
class Memory:
    """A caption's T steps along the conveyor belt, equations (2) and (3). Each array is (T, H).

    before = kept + dropped and cell = kept + written, unit by unit. Every cell of models/cells.py
    obeys equation (2), the GRU with f its update gate and i = 1 − f.
    """

    before: np.ndarray  # c_{t-1}; the first is c_0, which the picture as a whole put on the belt
    kept: np.ndarray  # f ⊙ c_{t-1}
    dropped: np.ndarray  # (1 − f) ⊙ c_{t-1}
    written: np.ndarray  # i ⊙ g
    cell: np.ndarray  # c_t
    shown: np.ndarray  # h_t: o ⊙ tanh(c_t), or of a GRU the memory itself
    single: bool  # one memory, h = c: a GRU
    coupled: bool  # i = 1 − f


def follow(gates: Mapping[str, np.ndarray]) -> Memory | None:
    """The memory behind a caption's gates, each (T, H); None where one of `GATES` is missing.

    c_0 is no part of a trace: it is equation (2) solved for c_{t-1} at the first word.
    """
    if not gates.keys() >= set(GATES):
        return None
    f, i, g, cell, _, hidden = (np.asarray(gates[name], np.float64) for name in GATES)
    written = i * g
    first = (cell - written)[:1]
    start = np.divide(first, f[:1], out=np.zeros_like(first), where=f[:1] > 0)
    before = np.concatenate([start, cell[:-1]])[: len(cell)]
    kept = f * before
    return Memory(
        before=before,
        kept=kept,
        dropped=before - kept,
        written=written,
        cell=cell,
        shown=hidden,
        single=np.array_equal(hidden, cell),
        coupled=np.allclose(i, 1 - f, atol=1e-6),
    )


def amount(values: np.ndarray) -> np.ndarray:
    """Mean size over the units, (T, H) → (T,).

    0 ≤ f ≤ 1 makes the amounts of what was kept and dropped add up to that of what was there.
    What was written may cancel some of what was kept: the belt can carry less than their sum.
    """
    return np.abs(values).mean(1)


def shares(memory: Memory) -> tuple[np.ndarray, np.ndarray]:
    """Of what was there, how much was dropped; of what then was, how much is new: each (T,)."""
    dropped, written = amount(memory.dropped), amount(memory.written)
    loads = amount(memory.before), amount(memory.kept) + written
    lost, new = (
        part / np.maximum(load, 1e-9) for part, load in zip((dropped, written), loads, strict=True)
    )
    return lost, new


def cell_limit(cell: np.ndarray) -> float:
    """Where the colours of cell states end: a few reach far beyond the rest, and would pale it."""
    return max(float(np.quantile(np.abs(cell), 0.98)), 1e-9)


def telling_units(traces: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    """Indices of up to `count` units that vary most over the words, by when the first one peaks.

    A unit's variation is summed over the traces, each (T, H) and relative to all its numbers'.
    """
    arrays = [np.asarray(values, np.float64) for values in traces.values()]
    spread = sum(values.std(0) / (values.std() + 1e-9) for values in arrays)
    units = np.sort(np.argsort(-spread, kind="stable")[:count])
    return units[np.argsort(np.abs(arrays[0][:, units]).argmax(0), kind="stable")]


def explain(memory: Memory | None) -> dict[str, tuple[str, str]]:
    """A title and an explanation of each thing that is drawn, as they hold for this cell."""
    texts = {
        "words": ("The words", "and where the decoder looked before it wrote each of them."),
        "belt": (
            "The conveyor belt",
            "Long-term memory c on its way through the sentence. The forget gate drops some, the "
            f"input gate puts some on, and nothing else happens to it: {_CELL}.",
        ),
        "forget": ("Forget gate f", "What share of its old memory each unit keeps: a sigmoid."),
        "input": (
            "Input gate i",
            "How much of its candidate each unit writes: a sigmoid.",
        ),
        "candidate": (
            "Candidate g",
            "What could be written, from the word before, the hidden state and what attention saw.",
        ),
        "cell": (
            "Cell state c",
            "The long-term memory that is carried on: what was kept, plus what was written.",
        ),
        "output": ("Output gate o", "How much of its memory each unit shows: a sigmoid."),
        "shown": (
            "Hidden state h",
            f"Short-term memory, what the word is chosen from: {_HIDDEN}.",
        ),
    }
    if memory and memory.coupled:
        texts["input"] = (
            "Input gate i = 1 − f",
            "Coupled to the forget gate: each unit lets in just the share that it forgets.",
        )
    if memory and memory.single:
        texts["forget"] = (
            "Update gate f",
            "A GRU's forget gate: what share of its old memory each unit keeps, a sigmoid.",
        )
        texts["output"] = (
            "Reset gate r",
            "The GRU has no output gate. In its place: how much of its old memory each unit shows "
            "to the candidate.",
        )
        texts["shown"] = (
            "Hidden state h = c",
            "A GRU has one memory: the word sees all that is on the belt.",
        )
    return texts


def signed_colours() -> np.ndarray:
    """Colours for numbers from − to +, as RGBA bytes (256, 4): blue, none at zero, orange.

    The colour-blind tell them apart, too; zero shows the paper, light or dark.
    """
    levels = np.linspace(-1, 1, 256)
    colours = np.where(levels[:, None] < 0, (53, 123, 196, 0), (232, 135, 30, 0))
    colours[:, 3] = 255 * np.abs(levels)
    return colours.astype(np.uint8)
