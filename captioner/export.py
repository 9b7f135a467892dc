"""A trained captioner as ONNX, for programs that have no torch.

The graphs are made of the code that captions here: `encoder.onnx` of the encoder and of
`Decoder.remember` and `start`, `step.onnx` of one turn of the search's loop, `Decoder.step` and
`search.advance`. So the equations and the search stand once; exported.py only turns the crank.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from captioner.captioner import Captioner
from captioner.config import SearchOptions
from captioner.files import whole_folder
from captioner.models.decoder import Decoder, Trace
from captioner.models.lstm import State
from captioner.models.model import CaptioningModel
from captioner.rules import Rules
from captioner.search import BeamPick, advance, take
from captioner.vocabulary import START


class Start(nn.Module):
    """Pixels (N, 3, S, S) → what the decoder remembers of them, and its first state, (N, 1, H)."""

    def __init__(self, model: CaptioningModel):
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        memory = self.model.decoder.remember(self.model.annotate(pixels))
        return (*memory, *self.model.decoder.start(memory))


class SearchStep(nn.Module):
    """One more word for K captions of each of N images; all outputs in the order of the choice."""

    outputs = (
        *("token", "parent", "gain", "next_hidden", "next_cell"),
        *(f"trace_{name}" for name in Trace._fields),
    )

    def __init__(self, decoder: Decoder, memory: type, options: SearchOptions):
        super().__init__()
        self.decoder = decoder
        self.memory = memory
        self.pick = BeamPick(options.length_penalty)
        self.rules = Rules(options.max_length, options.min_length, options.block_ngrams)

    def forward(
        self, words: Tensor, totals: Tensor, hidden: Tensor, cell: Tensor, *memory: Tensor
    ) -> tuple[Tensor, ...]:
        step = self.decoder.step(words[..., -1], State(hidden, cell), self.memory(*memory))
        turn = advance(self.pick, self.rules, words, totals, step)
        trace = (take(part, turn.choice.parent) for part in turn.trace)
        return (*turn.choice, turn.gain, *turn.state, *trace)


def export(captioner: Captioner, folder: str | Path) -> Path:
    """Writes a folder that `ExportedCaptioner.load` reads, and returns its path.

    Width, `max_length` and `consensus` can be changed after; the search's other options are in the
    graph.
    Raises ValueError for a strategy that draws at random, for a folder that exists, and where
    onnxscript is not installed.
    """
    folder, options = Path(folder), captioner.options
    if options.strategy == "sample":
        raise ValueError("search.strategy is 'sample'; only greedy and beam can be exported")
    if folder.exists():
        raise ValueError(f"{folder} exists already; give export a new folder")
    try:
        import onnxscript  # noqa: F401  (torch's exporter imports it, late)
    except ImportError as error:
        raise ValueError("exporting needs onnxscript: pip install 'captioner[export]'") from error
    model = copy.deepcopy(captioner.model).cpu()
    model.encoder.at_once = None  # the graph's number of images is open
    with whole_folder(folder) as new, torch.no_grad():
        _write_graphs(model, options, new)
        captioner.vocabulary.save(new / "vocabulary.json")
        content = {
            "transform": asdict(captioner.transform),
            "grid": captioner.grid._asdict(),
            "gated": captioner.gated,
            "search": asdict(options),
        }
        (new / "captioner.json").write_text(json.dumps(content, indent=1) + "\n")
    return folder


def _write_graphs(model: CaptioningModel, options: SearchOptions, folder: Path) -> None:
    """Traced with sizes of 2 and more, all different, which then are taken for variable."""
    images, captions = Dim("images"), Dim("captions")
    size = model.encoder.image_size
    pixels = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    memory = model.decoder.remember(model.annotate(pixels))
    state = model.decoder.start(memory, 3)
    kept = type(memory)._fields
    _write(
        Start(model),
        {"pixels": pixels},
        [*kept, "hidden", "cell"],
        [{0: images}],
        folder / "encoder.onnx",
    )
    words = torch.full((2, 3, 4), START)
    per_caption = {0: images, 1: captions}
    _write(
        SearchStep(model.decoder, type(memory), options),
        {"words": words, "totals": torch.zeros(2, 3), **state._asdict(), **memory._asdict()},
        SearchStep.outputs,
        [{**per_caption, 2: Dim("length")}, *[per_caption] * 3, tuple([{0: images}] * len(kept))],
        folder / "step.onnx",
    )


def _write(
    module: nn.Module,
    inputs: dict[str, Tensor],
    outputs: Sequence[str],
    shapes: Sequence[object],
    path: Path,
) -> None:
    with _quiet():
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            path,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple(shapes),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells at length of its progress, and warns of its own inner life."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
