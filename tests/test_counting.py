"""Our counts of FLOPs are those that torch counts as it computes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from captioner.benchmark.contests import build_pair
from captioner.benchmark.counting import DecoderShape, encoder_work
from captioner.losses import caption_loss
from captioner.models.encoder import build_encoder
from captioner.search import search

# More locations than words: what reading ahead does to these is in test_read_ahead.py.
SHAPE = DecoderShape(locations=30, annotation=6, hidden=8, embedding=7, attention=4, vocabulary=23)
IMAGES, CAPTIONS, STEPS = 3, 2, 4
CPU = torch.device("cpu")
# A matrix by a vector, which torch leaves out.
OF_VECTORS = {torch.ops.aten.mv: lambda matrix, vector, **_: 2 * matrix[0] * matrix[1]}


def counted(shape: DecoderShape, backward: bool) -> int:
    decoder, _ = build_pair(shape, CPU)
    tokens = torch.randint(4, shape.vocabulary, (IMAGES, CAPTIONS, STEPS))
    annotations = torch.rand(IMAGES, shape.locations, shape.annotation)
    mask = torch.ones_like(tokens, dtype=torch.bool)  # without padding nothing is computed in vain
    with FlopCounterMode(display=False, custom_mapping=OF_VECTORS) as counter:
        unrolled = decoder(tokens, mask, annotations)
        loss = caption_loss(unrolled.logits, tokens.flatten(), unrolled.attended, mask[..., 0])
        if backward:
            (loss.cross_entropy + loss.penalty).backward()
    return counter.get_total_flops()


OTHERS = [{}, *({name: 3 * size} for name, size in vars(SHAPE).items())]


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_flops_of_the_decoder_are_torchs(other: dict[str, int]):
    shape = replace(SHAPE, **other)
    words = IMAGES * CAPTIONS * STEPS
    assert shape.forward(IMAGES, words).flops == counted(shape, backward=False)
    assert shape.training(IMAGES, words).flops == counted(shape, backward=True)


def test_flops_of_a_search_are_torchs():
    decoder, _ = build_pair(SHAPE, CPU)
    annotations, read = torch.rand(IMAGES, SHAPE.locations, SHAPE.annotation), []
    embed = decoder.cell.embed
    embed.register_forward_hook(lambda _, given, __: read.append(len(given[0])))
    with FlopCounterMode(display=False, custom_mapping=OF_VECTORS) as counter:
        found = search(decoder.eval(), annotations, width=2, max_length=STEPS)
    steps = max(len(each.ids) + each.ended for row in found for each in row)
    words = IMAGES * (1 + 2 * (steps - 1))
    # The initial state and the first step of all beams are computed for each image once, the
    # embedding's part of the cell for each different word of a step; all else for each beam.
    assert sum(read) < words
    saved = 2 * (words - sum(read)) * embed.weight.numel()
    assert SHAPE.forward(IMAGES, words).flops - saved == counter.get_total_flops()


def test_parameters_are_those_of_the_decoder():
    decoder, _ = build_pair(SHAPE, CPU)
    matrices = sum(p.numel() for p in decoder.parameters() if p.ndim > 1)
    assert matrices == SHAPE.parameters


def test_bytes_of_a_convolution_are_what_it_reads_and_writes():
    encoder = build_encoder("tiny", 32).eval()
    work, twice = (encoder_work(encoder.trunk, side) for side in (32, 64))
    assert twice.flops == 4 * work.flops and twice.bytes == 4 * work.bytes
    first, last = encoder.trunk[0], encoder.trunk[-3]
    assert work.bytes > 4 * (3 * 32 * 32 + last.out_channels * encoder.grid.height**2)
    assert first.in_channels == 3
