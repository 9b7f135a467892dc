"""Captions from what export.py wrote: needs onnxruntime, numpy and Pillow, and no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captioner.caption import Caption, CaptionWriter, Source, name_of, with_alternatives
from captioner.config import SearchOptions
from captioner.consensus import agreement
from captioner.data.images import Transform, open_image
from captioner.grid import Grid
from captioner.process import multiply_by_onednn
from captioner.vocabulary import END, PAD, START, Vocabulary

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Arrays = dict[str, np.ndarray]

AT_ONCE = 8
"""Pictures that are encoded together: feature maps of more take memory, and no less time."""


class ExportedCaptioner(CaptionWriter):
    """An exported model, ready for pictures: writes what the `Captioner` it came from writes."""

    def __init__(
        self,
        encoder: InferenceSession,
        step: InferenceSession,
        vocabulary: Vocabulary,
        transform: Transform,
        grid: Grid,
        gated: bool,
        options: SearchOptions,
    ):
        """The two graphs as export.py describes them; the rest as `Captioner` has it."""
        super().__init__(vocabulary, transform, grid, gated)
        self.encoder = encoder
        self.step = step
        self.options = options

    @classmethod
    def load(
        cls, folder: str | Path, device: str | None = None, options: SearchOptions | None = None
    ) -> ExportedCaptioner:
        """Reads a folder that `export` wrote; `options` may change width, max_length and consensus.

        Raises ValueError where the folder is not whole, for other changes, which take a new export,
        and for a device other than the CPU.
        """
        folder = Path(folder)
        if device not in (None, "cpu"):
            raise ValueError(f"device is {device}, but exported models run on the cpu")
        try:
            content = json.loads((folder / "captioner.json").read_text(encoding="utf-8"))
            exported = SearchOptions(**content["search"])
            return cls(
                _session(folder / "encoder.onnx"),
                _session(folder / "step.onnx"),
                Vocabulary.load(folder / "vocabulary.json"),
                Transform(**content["transform"]),
                Grid(**content["grid"]),
                content["gated"],
                _changed(exported, options or exported),
            )
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{folder} holds no exported captioner: {error}") from error

    @staticmethod
    def wrote(folder: str | Path) -> bool:
        """Whether a folder looks like an exported model, rather than a checkpoint."""
        return (Path(folder) / "captioner.json").is_file()

    def caption(self, images: Sequence[Source]) -> list[Caption]:
        """The best caption of each picture, all in one batch. Raises ImageError."""
        if not images:
            return []
        pixels = np.stack([self.transform.pixels(open_image(image)) for image in images])
        totals, history = self._search(pixels, self.options.captions)

        def one(n: int, k: int) -> Caption:
            past = {name: values[n, k] for name, values in history.items()}
            return self._caption(float(totals[n, k]), past, name_of(images[n]))

        order = (self._order(*each) for each in zip(totals, history["words"], strict=True))
        return [with_alternatives(one(n, k) for k in beams) for n, beams in enumerate(order)]

    def _order(self, totals: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Which of an image's K captions can be, best first. totals: (K,), words: (K, steps)."""
        possible = np.flatnonzero(np.isfinite(totals))
        if not self.options.consensus:
            return possible
        words = words[possible]
        lengths = np.maximum((words != PAD).sum(-1), 1)
        scores = totals[possible] / lengths**self.options.length_penalty
        ids = [[i for i in row if i > END] for row in words.tolist()]
        return possible[(-agreement(ids, scores, self.options.consensus)).argsort(kind="stable")]

    def _search(self, pixels: np.ndarray, width: int) -> tuple[np.ndarray, Arrays]:
        """log p of each caption, (N, K), best first, and its past: each (N, K, steps, ·)."""
        values = self._encode(pixels)
        values |= {name: values[name].repeat(width, axis=1) for name in ("hidden", "cell")}
        words = np.full((len(pixels), width, 1), START)
        totals = np.zeros((len(pixels), width), np.float32)
        totals[:, 1:] = -np.inf  # all beams are still the same one: continue only the first
        history: Arrays = {}
        for _ in range(self.options.max_length):
            found = _run(self.step, {**values, "words": words, "totals": totals})
            values |= {name.removeprefix("next_"): value for name, value in found.items()}
            token, parent, gain = (values.pop(name) for name in ("token", "parent", "gain"))
            words = _append(words, token, parent)
            totals = np.take_along_axis(totals, parent, 1) + gain
            seen = {name: part for name, part in values.items() if name.startswith("trace_")}
            for name, part in {"gain": gain, **seen}.items():
                history[name] = _append(history.get(name), part, parent)
            if np.isin(token, (END, PAD)).all():
                break
        return totals, {"words": words[..., 1:], **history}

    def _encode(self, pixels: np.ndarray) -> Arrays:
        parts = [
            _run(self.encoder, {"pixels": pixels[first : first + AT_ONCE]})
            for first in range(0, len(pixels), AT_ONCE)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _caption(self, log_prob: float, past: Arrays, image: str) -> Caption:
        ids = [int(i) for i in past["words"] if i > END]
        trace = {
            name.removeprefix("trace_"): part[: len(ids)]
            for name, part in past.items()
            if name.startswith("trace_")
        }
        return self.compose(image, ids, log_prob, past["gain"][: len(ids)], trace)


def _session(path: Path) -> InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError("exported models need onnxruntime: pip install onnxruntime") from error
    if not path.is_file():
        raise FileNotFoundError(f"it has no {path.name}")
    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds derive from no other
        raise ValueError(f"{path} is damaged: {str(error).splitlines()[0]}") from error


def _run(session: InferenceSession, values: Arrays) -> Arrays:
    """A graph's outputs by name; of the values it is given those that it asks for."""
    names = [output.name for output in session.get_outputs()]
    inputs = {each.name: values[each.name] for each in session.get_inputs()}
    return dict(zip(names, session.run(names, inputs), strict=True))


def _append(past: np.ndarray | None, now: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """The past of each caption, (N, K, steps, ·), in its new order, and one step more."""
    now = now[:, :, None]
    if past is None:
        return now
    rows = parent.reshape(*parent.shape, *[1] * (past.ndim - 2))
    return np.concatenate([np.take_along_axis(past, rows, 1), now], axis=2)


def _changed(exported: SearchOptions, wanted: SearchOptions) -> SearchOptions:
    free = {name: getattr(wanted, name) for name in ("width", "max_length", "consensus")}
    for name, value in asdict(wanted).items():
        was = getattr(exported, name)
        if name not in free and value != was:
            raise ValueError(
                f"search.{name} is {value}, but the graph has {was}; say search.{name}={was}, or "
                "export it anew"
            )
    return replace(exported, **free)


def load_writer(
    checkpoint: str | Path,
    device: str | None = None,
    options: SearchOptions | None = None,
    precision: str = "fp32",
) -> CaptionWriter:
    """What captions, of a checkpoint or of an exported model, for a script.

    Raises ValueError as their `load` does, and where an exported model should be in bf16.
    """
    if ExportedCaptioner.wrote(checkpoint):
        if precision == "bf16":
            raise ValueError(
                f"precision is bf16, but {checkpoint} is exported, and computes in fp32; "
                "name the checkpoint instead"
            )
        return ExportedCaptioner.load(checkpoint, device, options)
    from captioner.captioner import Captioner  # here alone, since it needs torch

    multiply_by_onednn()
    return Captioner.load(checkpoint, device, options, precision)
