"""The conveyor belt adds up, whichever cell moves it, and begins with what the picture put on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import SIDE, build_tiny, scenes

from captioner.captioner import Caption, Captioner
from captioner.config import SearchOptions
from captioner.data.images import Transform, open_image
from captioner.models.cells import CELLS
from captioner.visualize.memory import GATES, amount, explain, follow, shares, telling_units


def moved(cell: str) -> tuple[Captioner, Caption]:
    """A captioner with large random weights, whose gates open and shut, and a caption of it."""
    tiny = build_tiny(cell=cell)
    for weights in tiny.model.decoder.parameters():
        torch.nn.init.normal_(weights, std=0.4)
    options = SearchOptions(max_length=9, min_length=9, width=3)
    captioner = Captioner(tiny.model, tiny.vocabulary, Transform(SIDE, "crop"), options)
    return captioner, captioner(scenes()[0].image)


@pytest.mark.parametrize("cell", CELLS)
def test_kept_and_written_make_the_cell_and_kept_and_dropped_what_was_there(cell: str):
    _, caption = moved(cell)
    memory = follow(caption.gates)
    assert memory.kept + memory.written == pytest.approx(memory.cell, abs=1e-5)
    assert memory.kept + memory.dropped == pytest.approx(memory.before, abs=1e-12)
    assert np.array_equal(memory.before[1:], caption.gates["cell"][:-1])
    assert memory.written == pytest.approx(
        caption.gates["input"] * caption.gates["candidate"], abs=1e-6
    )
    shown = memory.cell if cell == "gru" else caption.gates["output"] * np.tanh(memory.cell)
    assert memory.shown == pytest.approx(shown, abs=1e-5)
    assert (memory.single, memory.coupled) == (cell == "gru", cell in ("gru", "coupled"))


@pytest.mark.parametrize("cell", CELLS)
def test_the_belt_starts_with_the_memory_that_the_decoder_started_with(cell: str):
    captioner, caption = moved(cell)
    pixels = captioner.transform(open_image(scenes()[0].image))[None]
    decoder = captioner.model.decoder
    with torch.inference_mode():
        start = decoder.start(decoder.remember(captioner.model.annotate(pixels))).cell[0, 0]
    memory = follow(caption.gates)
    tolerance = 1e-6 / np.minimum(caption.gates["forget"][0], 1)  # c_0 is known through f alone
    assert (np.abs(memory.before[0] - start.numpy()) < 1e-5 + tolerance).all()


def test_amounts_of_kept_and_dropped_add_up_and_are_what_shares_are_of():
    memory = follow(moved("lstm")[1].gates)
    kept, dropped, written, before = (
        amount(each) for each in (memory.kept, memory.dropped, memory.written, memory.before)
    )
    assert kept + dropped == pytest.approx(before, abs=1e-9)
    lost, new = shares(memory)
    assert lost * before == pytest.approx(dropped)
    assert new * (kept + written) == pytest.approx(written)
    assert lost.min() >= 0 and lost.max() <= 1 and new.min() > 0 and new.max() < 1


def test_a_gate_shut_at_the_first_word_leaves_the_start_unknown_and_finite():
    gates = {name: np.full((2, 1), 0.5) for name in GATES}
    gates["forget"][0] = 0
    memory = follow(gates)
    assert memory.before[:, 0].tolist() == [0, 0.5]


def test_without_all_gates_there_is_no_memory_and_without_words_an_empty_one():
    gates = {name: np.zeros((0, 4)) for name in GATES}
    assert follow(gates).before.shape == follow(gates).kept.shape == (0, 4)
    gates.pop("candidate")
    assert follow(gates) is None


def test_telling_units_are_those_that_vary_in_the_order_in_which_they_peak():
    cell = np.zeros((4, 6))
    cell[3, 1], cell[0, 4], cell[2, 5] = 3, -2, 1
    cell[:, 0] = 9  # large, but nothing happens to it
    assert telling_units({"cell": cell}, 2).tolist() == [4, 1]
    assert telling_units({"cell": cell}, 3).tolist() == [4, 5, 1]
    assert len(telling_units({"cell": cell}, 99)) == 6


def test_words_say_what_stands_for_what():
    texts = {cell: explain(follow(moved(cell)[1].gates)) for cell in CELLS}
    assert texts["lstm"] == texts["peephole"] == explain(None)
    assert texts["gru"]["output"][0].startswith("Reset gate")
    assert texts["gru"]["forget"][0].startswith("Update gate")
    assert "1 − f" in texts["coupled"]["input"][0] and "1 − f" in texts["gru"]["input"][0]
    assert texts["coupled"]["output"] == texts["lstm"]["output"]
