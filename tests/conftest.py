from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fuzzing
import pytest
import torch

from captioner.models import additive
from captioner.models.decoder import Decoder

SIZES = {"vocabulary": 13, "annotation": 6, "hidden": 8, "embedding": 7, "attention": 5}
SHARED = Path(__file__).parents[2] / "shared"


fuzzing.choose_budget()


@pytest.fixture(autouse=True)
def _reproducible() -> None:
    """The same random numbers in each test, whichever tests run; one thread is fastest here.

    What scripts ask of their process, an earlier test's have asked of this one.
    """
    additive._fused.clear()
    torch.set_float32_matmul_precision("highest")
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def make_decoder() -> Callable[..., Decoder]:
    """A tiny decoder in eval mode, with weights large enough for its words to differ in chance."""

    def make(seed: int = 0, scale: float = 0.6, **options: int | str | bool) -> Decoder:
        torch.manual_seed(seed)
        decoder = Decoder(**{**SIZES, **options}).eval()
        with torch.no_grad():
            for parameter in decoder.parameters():
                parameter.normal_(std=scale)
        return decoder

    return make


@pytest.fixture
def shared() -> Path:
    """Files too large for the repository, in a folder beside it."""
    if not SHARED.is_dir():
        pytest.skip(f"needs {SHARED}, which is not here")
    return SHARED


@pytest.fixture(scope="session")
def flickr8k_captions() -> list[list[str]]:
    """The five raw captions of each of Flickr8k's 1,000 dev images."""
    folder = SHARED / "data" / "flickr8k"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}, which is not here")
    captions = {name: [] for name in (folder / "Flickr_8k.devImages.txt").read_text().split()}
    for line in (folder / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines():
        key, caption = line.split("\t")
        captions.get(key.partition("#")[0], []).append(caption)
    return list(captions.values())
