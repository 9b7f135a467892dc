"""An image file opens as an RGB picture within its limits, or is an ImageError."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import pytest
from fuzzing import damaged, read_or_refused
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from captioner.data.images import ImageError, Transform, open_image

PIXELS = 1_000_000
FORMATS = {
    "jpeg": ("RGB", {}),
    "jpeg CMYK": ("CMYK", {}),
    "png": ("RGBA", {}),
    "png palette": ("P", {"transparency": 3}),
    "gif": ("P", {"save_all": True}),
    "webp": ("RGB", {}),
    "tiff": ("RGB", {"compression": "tiff_lzw"}),
    "tiff deep": ("I;16", {}),
    "bmp": ("RGB", {}),
}
if features.check("avif"):
    FORMATS["avif"] = ("RGB", {})


@cache
def whole(kind: str) -> bytes:
    mode, options = FORMATS[kind]
    file, gradient = io.BytesIO(), Image.linear_gradient("L").resize((24, 17))
    picture = gradient.convert("I").convert(mode) if ";" in mode else gradient.convert(mode)
    others = [picture.transpose(Image.Transpose.ROTATE_180)] if "save_all" in options else []
    picture.save(file, kind.split()[0], append_images=others, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
@given(data=st.data())
def test_image(tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject):
    path = tmp_path_factory.getbasetemp() / f"x.{kind.split()[0]}"
    path.write_bytes(data.draw(damaged(whole(kind))))
    image = read_or_refused(lambda: open_image(path, PIXELS), ImageError)
    if image is not None:
        assert image.mode == "RGB" and 0 < image.width * image.height <= PIXELS
        assert Transform(16, "pad").pixels(image).shape == (3, 16, 16)


@given(st.binary(max_size=400))
def test_anything(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path: Path = tmp_path_factory.getbasetemp() / "x.jpg"
    path.write_bytes(content)
    read_or_refused(lambda: open_image(path, PIXELS), ImageError)
