"""Features are computed once for what they depend on, whatever interrupts the work."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from tiny import SIDE, scenes, write_picture
from torch.utils.data import DataLoader

from captioner.benchmark.timing import added_memory, peak_resident
from captioner.data import features
from captioner.data.augmentation import view_of
from captioner.data.features import FeatureCache, cache_features, cache_key
from captioner.data.images import ImageError, Transform, open_image
from captioner.data.loader import CaptionedImages, ImageSource
from captioner.data.records import Record
from captioner.models.encoder import Encoder, build_encoder
from captioner.vocabulary import Vocabulary

BATCH = 3
TRANSFORM = Transform(SIDE, "squash")


class PowerCutError(Exception):
    pass


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """Ten files and two scenes."""
    pictures = [write_picture(tmp_path / "images" / f"{i}.png", i) for i in range(10)]
    return [Record(path.name, path, ["A dot."], "train") for path in pictures] + scenes()[:2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return build_encoder("tiny", SIDE).state_dict()


class Watched(NamedTuple):
    encoder: Encoder
    batches: list[int]  # images in each batch that it encoded


@pytest.fixture
def watched(state: dict) -> Callable[..., Watched]:
    """Encoders of the same weights; one may fail when it comes to its batch number `fails_at`."""

    def make(fails_at: int | None = None) -> Watched:
        encoder, batches = build_encoder("tiny", SIDE), []
        encoder.load_state_dict(state)

        def watch(module: Encoder, inputs: tuple[torch.Tensor]) -> None:
            if len(batches) == fails_at:
                raise PowerCutError
            batches.append(len(inputs[0]))

        encoder.register_forward_pre_hook(watch)
        return Watched(encoder, batches)

    return make


def cache(encoder: Encoder, records: list[Record], root: Path, **options: int) -> FeatureCache:
    return cache_features(
        encoder,
        TRANSFORM,
        records,
        root,
        progress=lambda batches, *_: batches,
        device=torch.device("cpu"),
        **{"batch": BATCH, **options},
    )


def stacked(cached: FeatureCache, records: list[Record]) -> torch.Tensor:
    return torch.stack([cached(record) for record in records])


def key(encoder: Encoder, records: list[Record], size: int = SIDE, fit: str = "squash") -> str:
    return cache_key(encoder, Transform(size, fit), records)


def test_features_are_what_the_encoder_gives(records, root: Path, watched):
    encoder, batches = watched()
    cached = stacked(cache(encoder, records, root), records)
    assert batches == [3, 3, 3, 3]
    pixels = torch.stack([TRANSFORM(open_image(record.image)) for record in records])
    with torch.no_grad():
        direct = encoder.eval()(pixels)
    assert cached.dtype == torch.float16 and cached.shape == direct.shape
    # fp16 keeps 11 bits; below 6e-5 it keeps fewer.
    torch.testing.assert_close(cached.float(), direct, rtol=2**-10, atol=1e-6)


def test_a_trunk_with_batch_statistics_uses_them_and_leaves_them(records, root: Path):
    encoder = build_encoder("resnet18", SIDE, "layer1").train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    cached = stacked(cache(encoder, records[:4], root), records[:4])
    assert all(torch.equal(before[name], t) for name, t in encoder.state_dict().items())
    pixels = torch.stack([TRANSFORM(open_image(record.image)) for record in records[:4]])
    with torch.no_grad():
        direct = encoder.eval()(pixels)
    torch.testing.assert_close(cached.float(), direct, rtol=2**-10, atol=1e-6)


def test_each_view_of_an_image_is_kept_and_views_make_another_cache(records, root, watched):
    encoder, batches = watched()
    cached = cache(encoder, records, root, views=3)
    assert sum(batches) == 3 * len(records)
    record = records[4]
    for view in range(3):
        pixels = TRANSFORM(view_of(open_image(record.image), record.image_id, view))
        with torch.no_grad():
            direct = encoder(pixels[None])[0]
        torch.testing.assert_close(cached(record, view).float(), direct, rtol=2**-10, atol=1e-6)
    assert cache(encoder, records, root).folder != cached.folder


def test_what_is_cached_is_not_computed_again(records, root: Path, watched):
    first = stacked(cache(watched().encoder, records, root), records)
    encoder, batches = watched()
    again = cache(encoder, records, root)
    assert batches == []
    assert torch.equal(stacked(again, records), first)
    assert torch.equal(stacked(again, records[::-1]), first.flip(0))


def test_workers_read_the_images_as_well(records, root: Path, watched):
    alone = stacked(cache(watched().encoder, records, root), records)
    shared = stacked(cache(watched().encoder, records, root / "2", workers=1), records)
    assert torch.equal(shared, alone)


def test_a_first_run_draws_the_same_random_numbers_as_one_that_finds_a_cache(
    records, root: Path, watched
):
    encoder, before = watched().encoder, torch.get_rng_state()
    cache(encoder, records, root)
    assert torch.equal(torch.get_rng_state(), before)


# What the key depends on.


def change_weight(encoder: Encoder, records: list[Record]) -> dict:
    with torch.no_grad():
        next(encoder.parameters()).view(-1)[0] += 1e-6
    return {}


def change_pixels(encoder: Encoder, records: list[Record]) -> dict:
    """The same size in bytes, and written in the same second."""
    path = records[4].image
    content, status = bytearray(path.read_bytes()), path.stat()
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1000))
    return {}


def rename(encoder: Encoder, records: list[Record]) -> dict:
    records[4].image_id = "another"
    return {}


def change_scene(encoder: Encoder, records: list[Record]) -> dict:
    records[-1].image.groups[0].shapes.pop()
    return {}


@pytest.mark.parametrize(
    "change",
    [
        change_weight,
        change_pixels,
        rename,
        change_scene,
        lambda encoder, records: records.reverse() or {},
        lambda encoder, records: records.pop() and {},
        lambda encoder, records: {"size": SIDE + 8},
        lambda encoder, records: {"fit": "pad"},
    ],
    ids=["weights", "image", "id", "scene", "order", "number", "size", "fit"],
)
def test_another_key_when_anything_changes(records, watched, change):
    before, encoder = key(watched().encoder, records), watched().encoder
    assert key(encoder, records) == before
    assert key(encoder, records, **change(encoder, records)) != before


def test_another_key_for_another_node(records):
    """Where two nodes share all weights, too: before and behind a ReLU."""
    keys = []
    for node in ("bn1", "relu", "layer1"):
        torch.manual_seed(0)
        keys.append(key(build_encoder("resnet18", SIDE, node), records))
    assert len(set(keys)) == 3


# Interruptions.


@pytest.fixture
def whole(records, tmp_path: Path, watched) -> torch.Tensor:
    """The features of a run that nothing interrupted."""
    return stacked(cache(watched().encoder, records, tmp_path / "whole"), records)


@pytest.mark.parametrize("finished", [0, 1, 2, 3])
def test_goes_on_behind_the_last_finished_batch(records, root, watched, whole, finished: int):
    with pytest.raises(PowerCutError):
        cache(watched(fails_at=finished).encoder, records, root)
    encoder, batches = watched()
    cached = cache(encoder, records, root)
    assert sum(batches) == 12 - BATCH * finished
    assert torch.equal(stacked(cached, records), whole)


def test_rows_that_a_kill_left_half_written_are_written_anew(records, root, watched, whole):
    with pytest.raises(PowerCutError):
        cache(watched(fails_at=2).encoder, records, root)
    (partial,) = root.rglob("*.partial")
    array = np.lib.format.open_memmap(partial, mode="r+")
    assert torch.equal(torch.from_numpy(np.array(array[:6])), whole[:6])
    array[6:] = 7
    array.flush()
    assert torch.equal(stacked(cache(watched().encoder, records, root), records), whole)


@pytest.mark.parametrize("moment", ["done", "index.json"])
def test_a_kill_between_two_writes_costs_work_but_no_truth(
    records, root, watched, whole, monkeypatch, moment: str
):
    real = features.write_atomically

    def write(path: Path, text: str) -> None:
        if path.name == moment and text != "3":
            raise PowerCutError
        real(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(features, "write_atomically", write)
        with pytest.raises(PowerCutError):
            cache(watched().encoder, records, root)
    assert torch.equal(stacked(cache(watched().encoder, records, root), records), whole)
    encoder, batches = watched()
    assert torch.equal(stacked(cache(encoder, records, root), records), whole) and batches == []


def test_a_damaged_image_is_named_and_the_work_before_it_kept(records, root, watched):
    good = records[7].image.read_bytes()
    records[7].image.write_bytes(good[:50])
    with pytest.raises(ImageError, match=r"7\.png"):
        cache(watched().encoder, records, root)
    assert not list(root.rglob("index.json"))


def test_too_small_a_disk_is_told_before_anything_is_written(records, root, watched, monkeypatch):
    encoder, batches = watched()
    needed = 2 * len(records) * encoder.grid.height * encoder.grid.width * encoder.annotation
    usage = shutil.disk_usage(root.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed))
    with pytest.raises(ValueError, match=r"feature cache needs .* GB .*data\.cache") as caught:
        cache(encoder, records, root)
    assert "\n" not in str(caught.value) and batches == [] and not root.exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2 * needed))
    cache(encoder, records, root)
    assert batches


# Reading.


def test_a_cache_is_mapped_late_and_travels_to_workers_without_its_array(
    records, root, watched, monkeypatch
):
    loads, real = [], np.load
    monkeypatch.setattr(np, "load", lambda *a, **k: loads.append(k) or real(*a, **k))
    cached = cache(watched().encoder, records, root)
    assert loads == []
    row = cached(records[3])
    copy = pickle.loads(pickle.dumps(cached))
    assert loads == [{"mmap_mode": "r"}]
    assert len(pickle.dumps(cached)) < 5000 < (cached.folder / "features.npy").stat().st_size
    assert torch.equal(copy(records[3]), row) and len(loads) == 2


def test_loader_workers_read_what_the_main_process_reads(records, root, watched, whole):
    cached = cache(watched().encoder, records, root)
    cached(records[0])  # mapped here before the worker starts
    source = ImageSource(TRANSFORM, cached)
    images = CaptionedImages(records, Vocabulary(["a", "dot"]), source)
    loader = DataLoader(images, batch_size=None, num_workers=1)
    assert torch.equal(torch.stack([item.image for item in loader]), whole)


def test_a_row_is_a_copy_that_may_be_written_to(records, root, watched):
    cached = cache(watched().encoder, records, root)
    row = cached(records[0])
    row.zero_()
    assert cached(records[0]).any()


@pytest.mark.skipif(peak_resident() is None, reason="only Linux tells")
def test_what_was_read_does_not_stay_in_memory(tmp_path):
    """A sparse file of 63 MB, read through to the last row."""
    names, shape = [f"{n}.jpg" for n in range(500)], (500, 49, 1280)
    np.lib.format.open_memmap(tmp_path / "features.npy", "w+", np.float16, shape)
    (tmp_path / "index.json").write_text(json.dumps({"shape": shape, "images": names}))
    cached = FeatureCache(tmp_path)
    with added_memory(torch.device("cpu")) as added:
        for name in names:
            assert cached(Record(name, Path(name), [], "train")).shape == shape[1:]
    assert added() < 20e6
