"""A corpus of pictures that are odd, damaged or meant ill: each opens as it looks, or is one line.

`-s` prints what each kind gave, as docs/reliability.md has it.
"""

from __future__ import annotations

import io
import os
import resource
import struct
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import build_tiny

from captioner.captioner import Captioner
from captioner.config import SearchOptions
from captioner.data.images import ImageError, Transform, find_images, open_image

SUFFIXES = ("jpg", "png", "gif", "webp", "tiff", "bmp")
NAMES = (
    *(
        "a b",
        "größer",
        "写真",
        "🐕",
        "-dash",
        "%00",
        "a[1]",
        "*",
        "'\"",
        "tab\t",
        "two\nlines",
        "$(x)",
    ),
    *("..", "...", "a" * 250),
)
Case = tuple[str, Path, bool | None]
"""The kind, the file, and whether it opens; None: it may, as far as it goes."""


def picture(mode: str = "RGB", size: tuple[int, int] = (33, 21)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(suffix: str, image: Image.Image | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    kind = {"jpg": "jpeg"}.get(suffix, suffix)
    (image or picture()).save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def odd(folder: Path) -> Iterator[Case]:
    """Whole pictures that are unlike most."""

    def write(kind: str, name: str, content: bytes, opens: bool = True) -> Case:
        (folder / name).write_bytes(content)
        return kind, folder / name, opens

    for size in ((1, 1), (1, 5000), (5000, 1), (4000, 3000)):
        yield write("size", f"{size[0]}x{size[1]}.png", encoded("png", Image.new("RGB", size)))
    for mode, suffix in (("CMYK", "jpg"), ("CMYK", "tiff"), ("I;16", "png"), ("1", "png")):
        image = Image.new(mode, (9, 7)) if ";" in mode else picture(mode)
        yield write("colours", f"{mode}.{suffix}", encoded(suffix, image))
    for suffix in ("png", "gif"):
        content = encoded(suffix, picture("P"), transparency=3)
        yield write("palette with transparency", f"clear.{suffix}", content)
    for suffix in ("gif", "png", "webp", "tiff"):
        others = [picture().rotate(180), picture().rotate(90)]
        content = encoded(suffix, save_all=True, append_images=others)
        yield write("animated", f"moving.{suffix}", content)
    for orientation in range(10):  # 0 and 9 mean nothing
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield write("EXIF orientation", f"turned{orientation}.jpg", encoded("jpg", exif=exif))
    for suffix in SUFFIXES:
        yield write("wrong extension", f"{suffix}.{'jpg' if suffix != 'jpg' else 'png'}",
                    encoded(suffix))  # fmt: skip
    for number, name in enumerate(NAMES):
        yield write("odd name", f"{name}.png", encoded("png"))
        yield write("odd name, damaged", f"{name}.gif", encoded("png")[: 9 + number], opens=False)


def damaged(folder: Path) -> Iterator[Case]:
    """Files that are no whole pictures."""

    def write(kind: str, name: str, content: bytes, opens: bool | None = False) -> Case:
        (folder / name).write_bytes(content)
        return kind, folder / name, opens

    for suffix in SUFFIXES:
        whole = encoded(suffix)
        for tenth in range(10):
            cut = whole[: len(whole) * tenth // 10]
            yield write("truncated", f"cut{tenth}.{suffix}", cut, None if tenth > 5 else False)
    for suffix in SUFFIXES:
        yield write("no picture", f"text.{suffix}", b"<html>not a picture</html>")
        yield write("no picture", f"zeros.{suffix}", bytes(5_000_000))
    pixels = zlib.compress(bytes(3 * 10_000 * 100))
    yield write("bomb", "promise.png", png(60_000, 60_000, (b"IDAT", pixels)))
    yield write("bomb", "just over.png", png(10_001, 10_000, (b"IDAT", pixels)))
    yield write("bomb", "side.png", png(2**31 - 1, 1, (b"IDAT", pixels)))
    text = b"x\0\0" + zlib.compress(bytes(80_000_000))
    yield write("bomb", "text.png", png(9, 9, (b"zTXt", text), (b"IDAT", pixels[:9])))
    header = bytearray(encoded("bmp"))
    header[18:26] = struct.pack("<ii", 60_000, 60_000)
    yield write("bomb", "promise.bmp", bytes(header))


def no_files(folder: Path) -> Iterator[Case]:
    (folder / "whole.png").write_bytes(encoded("png"))
    for name, target, opens in (("link", "whole.png", True), ("dangling", "nowhere", False)):
        (folder / f"{name}.png").symlink_to(target)
        yield "link", folder / f"{name}.png", opens
    (folder / "loop.png").symlink_to("loop.png")
    yield "link", folder / "loop.png", False
    (folder / "device.png").symlink_to("/dev/zero")
    yield "link", folder / "device.png", False
    (folder / "folder.jpg").mkdir()
    yield "folder", folder / "folder.jpg", False
    os.mkfifo(folder / "pipe.jpg")
    yield "pipe", folder / "pipe.jpg", False
    for name in ("nul\0.png", "a" * 300 + ".png", ""):
        yield "impossible name", folder / name, False


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    folders = [tmp_path_factory.mktemp(name) for name in ("odd", "damaged", "others")]
    return [case for make, at in zip((odd, damaged, no_files), folders, strict=True)
            for case in make(at)]  # fmt: skip


def test_each_opens_or_is_one_line_in_little_time_and_memory(corpus: list[Case]):
    told, before = Counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for kind, path, opens in corpus:
        began = time.monotonic()
        try:
            image = open_image(path)
            assert image.mode == "RGB" and Transform(16, "crop").pixels(image).shape[1:] == (16, 16)
            outcome = "opened"
        except ImageError as error:
            assert "\n" not in str(error) and ": " in str(error)
            outcome = "refused"
        assert opens in (None, outcome == "opened"), (kind, path, outcome)
        assert time.monotonic() - began < 10, path
        told[kind, outcome] += 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # kB
    print(*(f"{kind} | {n} {outcome}" for (kind, outcome), n in told.items()), sep="\n")
    print(f"{len(corpus)} files, {grown // 1000} MB more at most")
    assert len(corpus) > 130 and grown < 300_000


def test_a_folder_of_them_is_captioned_to_its_end(corpus: list[Case], tmp_path: Path):
    captioner = Captioner.load(
        build_tiny().save(tmp_path / "best"), "cpu", SearchOptions("greedy", max_length=3)
    )
    expected = {path: opens for _, path, opens in corpus}
    folders = {path.parent for path in expected if path.parent.is_dir()} - {tmp_path.parent}
    for folder in sorted(folders):
        paths = find_images(folder)
        answers = list(captioner.stream(paths, batch=8))
        assert len(answers) == len(paths) > 1
        for path, answer in zip(paths, answers, strict=True):
            opened = not isinstance(answer, ImageError)
            assert expected.get(path, True) in (None, opened), (path, answer)
