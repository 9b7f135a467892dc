"""Captioning in bfloat16: the same model, nearly the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import SIDE, build_tiny, write_picture
from torch import nn

from captioner.build import is_half
from captioner.captioner import Captioner
from captioner.config import CaptionOptions, EvaluateOptions, SearchOptions
from captioner.exported import load_writer
from captioner.models.attention import SoftAttention
from captioner.precision import at_least_float32, for_products, without_autocast

CPU = torch.device("cpu")
KINDS = ("soft", "hard", "multihead", "dot", "adaptive", "none")


def half() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_model_in_half_precision_gives_nearly_the_same(kind: str, cell: str, tmp_path: Path):
    beta = "none" if kind == "adaptive" else "scalar"
    tiny = build_tiny(attention_kind=kind, cell=cell, projection=12, beta=beta)
    folder = tiny.save(tmp_path / "best")
    pictures = [write_picture(tmp_path / f"{n}.png", n) for n in range(4)]
    options = SearchOptions(width=1, max_length=5, min_length=5)
    exact, fast = (
        Captioner.load(folder, "cpu", options, precision).caption(pictures)
        for precision in ("fp32", "bf16")
    )
    for one, other in zip(exact, fast, strict=True):
        assert one.alpha.shape[1:] == other.alpha.shape[1:]
        assert other.alpha.dtype == np.float32
        assert np.allclose(other.alpha.sum((1, 2)), 1, atol=1e-2)
        first = np.abs(one.word_log_probs[0] - other.word_log_probs[0])
        assert 0 < first < 0.1  # other numbers, but not by much


def test_all_products_have_weights_in_half_precision_and_nothing_else_has(tmp_path: Path):
    folder = build_tiny(projection=12).save(tmp_path / "best")
    model = Captioner.load(folder, "cpu", precision="bf16").model
    for part in model.modules():
        kind = torch.bfloat16 if isinstance(part, (nn.Linear, nn.Conv2d)) else torch.float32
        for name, weight in part.named_parameters(recurse=False):
            tied = weight is model.decoder.output.words.weight
            assert weight.dtype == (torch.bfloat16 if tied else kind), name
    assert model.lowered and not Captioner.load(folder, "cpu").model.lowered
    black = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)
    with model.arithmetic():
        assert model.annotate(black).dtype == torch.bfloat16


def test_auto_is_what_the_device_is_fast_in(monkeypatch: pytest.MonkeyPatch):
    for fast in (True, False):
        monkeypatch.setattr("captioner.build.has_fast_bf16", lambda device, fast=fast: fast)
        assert is_half("auto", CPU) == fast
        assert is_half("bf16", CPU) and not is_half("fp32", CPU)


@pytest.mark.parametrize("options", [CaptionOptions, EvaluateOptions])
def test_another_precision_is_refused(options: type):
    given = {"checkpoint": "a", "precision": "fp16"} | (
        {"images": "b"} if options is CaptionOptions else {}
    )
    with pytest.raises(ValueError, match="precision is 'fp16'; it must be one of auto, fp32, bf16"):
        options(**given)


def test_another_precision_is_refused_from_python_too(tmp_path: Path):
    folder = build_tiny().save(tmp_path / "best")
    with pytest.raises(ValueError, match="precision is 'fp16'; it must be one of auto, fp32, bf16"):
        Captioner.load(folder, "cpu", precision="fp16")


def test_an_exported_model_is_not_in_half_precision(tmp_path: Path):
    (tmp_path / "captioner.json").write_text("{}")
    with pytest.raises(ValueError, match=r"precision is bf16.*exported, and computes in fp32"):
        load_writer(tmp_path, precision="bf16")


def test_what_is_read_again_and_again_is_made_half_once():
    values = torch.rand(3)
    assert for_products(values) is values
    with half():
        assert for_products(values).dtype == torch.bfloat16
        with without_autocast(CPU):
            assert for_products(values) is values
    assert at_least_float32(values.bfloat16()).dtype == torch.float32
    assert at_least_float32(values.double()).dtype == torch.float64


def test_scores_of_attention_keep_full_precision_under_autocast():
    torch.manual_seed(0)
    attention = SoftAttention(annotation=8, hidden=6, attention=64)
    keys, query = attention.ready(torch.randn(2, 9, 64)), torch.randn(2, 3, 64)
    exact = attention.scores(query, keys[:, None])
    with half():
        assert torch.equal(attention.scores(query, keys[:, None]), exact)
