"""Any image file to an upright RGB picture, and any picture to the square that the encoder sees."""

from __future__ import annotations

import glob
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from captioner.data.parquet import ParquetMember
from captioner.data.records import Box, Drawable, on_the_image
from captioner.data.tar import TarMember

if TYPE_CHECKING:
    from torch import Tensor

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".apng", ".gif", ".webp", ".avif", ".tif", ".tiff", ".bmp")
)
FITS = ("squash", "crop", "pad")

# Fills the bars of "pad": ImageNet's mean colour, so about zero once an encoder has normalised it.
_BAR = (124, 116, 104)

# What white may be in grey pictures of more than 8 bits; values beyond all of these are stretched.
_WHITES = {"I": (65535,), "F": (1, 255, 65535)}

# What brings a picture upright, by its EXIF orientation; 1 is upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


MAX_PIXELS = 100_000_000  # of a picture, unless told otherwise


class ImageError(ValueError):
    """A picture that can't be used; one line that names it and what is wrong with it."""

    def __init__(self, said: str):
        super().__init__(" ".join(said.splitlines()))  # a file's name may hold any character


def open_image(
    source: Path | str | TarMember | ParquetMember | Image.Image | Drawable,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """Any picture as upright RGB: transparency over white, the first frame of an animation.

    Grey of more than 8 bits is scaled so that its white becomes 255; where its white can't be
    known (float or 32-bit values outside every usual range) its own range is stretched.

    Raises ImageError, in one line with the picture's name, when the source can't be read, is
    damaged, or has more than `max_pixels`; size is checked before any pixel is decoded.
    """
    if isinstance(source, (str, Path)):
        return _open_file(Path(source), max_pixels)
    if isinstance(source, (TarMember, ParquetMember)):
        return _open_file(source, max_pixels)
    picture = source.draw() if hasattr(source, "draw") else source
    if not isinstance(picture, Image.Image):
        raise ImageError(
            f"{type(source).__name__} is no picture: give a path, a PIL image or a drawable"
        )
    name = getattr(source, "filename", None) or f"the given {type(source).__name__}"
    with _as_image_error(name):
        return _decode(picture, name, max_pixels)


def find_images(pattern: Path | str) -> list[Path]:
    """The images that a file, a folder or a glob (`**` goes into folders) stands for, sorted.

    A file is taken whatever its suffix. Folders are searched to the bottom; hidden files and
    folders are passed over there. Raises ValueError when there is nothing.
    """
    name = os.path.expanduser(pattern)  # noqa: PTH111  (os.path, since Path's may raise)
    if os.path.isfile(name):  # noqa: PTH113
        return [Path(name)]
    if os.path.isdir(name):  # noqa: PTH112
        images, where = sorted(_images_below(Path(name))), f"in the folder {name}"
    elif glob.has_magic(name):
        matches = map(Path, glob.glob(name, recursive=True))  # noqa: PTH207  (may be absolute)
        images, where = sorted(set(filter(_is_image, matches))), f"match {name}"
    else:
        raise ValueError(f"no image file or folder {name!r}; give a file, a folder or a glob")
    if not images:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise ValueError(f"no images {where}; looked for files ending in {suffixes}")
    return images


@dataclass(frozen=True)
class Transform:
    """How a picture becomes the encoder's square of `size` × `size` pixels.

    "squash" keeps the whole picture and gives up its proportions; "crop" keeps the central square;
    "pad" keeps both and fills up with bars. Scaled by antialiased bicubic. Raises ValueError for
    a size or a fit that does not exist.
    """

    size: int
    fit: str

    def __post_init__(self) -> None:
        _check_size(self.size)
        if self.fit not in FITS:
            raise ValueError(f"fit is {self.fit!r}; it must be one of {', '.join(FITS)}")

    def __call__(self, image: Image.Image) -> Tensor:
        """(3, size, size) uint8, not normalised: mean and deviation are the encoder's."""
        import torch  # here alone, so that exported models need none

        return torch.from_numpy(self.pixels(image))

    def pixels(self, image: Image.Image) -> np.ndarray:
        """The same as an array."""
        return np.ascontiguousarray(np.asarray(self.view(image)).transpose(2, 0, 1))

    def view(self, image: Image.Image, size: int | None = None) -> Image.Image:
        """What the encoder sees of an RGB picture, in its own size or in a larger one to look at.

        Every size shows precisely the same region.
        """
        if image.mode != "RGB":
            raise ValueError(f"a view needs an RGB picture, not {image.mode}: use open_image")
        size = self.size if size is None else _check_size(size)
        if self.fit == "pad":
            return self._padded(image, size)
        box = _central_square(image) if self.fit == "crop" else None
        return image.resize((size, size), Image.Resampling.BICUBIC, box=box)

    def boxes(self, boxes: Sequence[Box], shape: tuple[int, int]) -> list[Box]:
        """Boxes on a picture of `shape`, width by height, as fractions of the encoder's square.

        What a crop cuts off is left out.
        """
        left, top, right, bottom = (edge / self.size for edge in self._place(shape))
        moved = (
            (
                left + box[0] * (right - left),
                top + box[1] * (bottom - top),
                left + box[2] * (right - left),
                top + box[3] * (bottom - top),
            )
            for box in boxes
        )
        return on_the_image(moved)

    def _place(self, shape: tuple[int, int]) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of a whole picture on the square, which a crop exceeds."""
        if self.fit == "squash":
            return 0, 0, self.size, self.size
        if self.fit == "crop":
            scale = self.size / min(shape)
            x, y = ((self.size - side * scale) / 2 for side in shape)
            return x, y, self.size - x, self.size - y
        # Rounded in the encoder's pixels first: a larger view has the bars where the encoder has.
        inner = [max(1, round(self.size * side / max(shape))) for side in shape]
        x, y = ((self.size - side) // 2 for side in inner)
        return x, y, x + inner[0], y + inner[1]

    def _padded(self, image: Image.Image, size: int) -> Image.Image:
        edges = self._place(image.size)
        left, top, right, bottom = (round(edge * size / self.size) for edge in edges)
        shape = (max(1, right - left), max(1, bottom - top))
        square = Image.new("RGB", (size, size), _BAR)
        square.paste(image.resize(shape, Image.Resampling.BICUBIC), (left, top))
        return square


def _open_file(path: Path | TarMember | ParquetMember, max_pixels: int) -> Image.Image:
    with _as_image_error(path):
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            raise ImageError(f"{path}: a folder or a device, not a file")
        if info.st_size == 0:
            raise ImageError(f"{path}: the file is empty")
        with path.open("rb") as file, Image.open(file) as picture:
            return _decode(picture, path, max_pixels)


def _decode(picture: Image.Image, name: Path | str, max_pixels: int) -> Image.Image:
    width, height = picture.size
    if width * height == 0:
        raise ImageError(f"{name}: it has no pixels")
    if width * height > max_pixels:
        raise ImageError(f"{name}: {width}×{height} pixels are too many; at most {max_pixels:,}")
    picture.load()
    return _rgb(_upright(picture))


def _upright(picture: Image.Image) -> Image.Image:
    """A copy, turned as its EXIF orientation says.

    PIL's own `exif_transpose` also writes the EXIF anew, and fails on photos whose other tags it
    can't write.
    """
    try:
        turn = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # damaged EXIF, which says nothing about the pixels
        turn = None
    return picture.copy() if turn is None else picture.transpose(turn)


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "F" or picture.mode.startswith("I"):
        picture = _eight_bit(picture)
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture.convert("RGBA"))
        picture = white
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits, or float, to 8 bits: PIL's own conversion would clip it to white."""
    values = np.nan_to_num(np.asarray(picture, np.float64), posinf=0, neginf=0)
    low, high = values.min(), values.max()
    whites = _WHITES.get(picture.mode, (65535,))  # the others are I;16 in some byte order
    white = next((white for white in whites if low >= 0 and high <= white), None)
    if white is not None:
        low, high = 0, white
    scaled = (values - low) * (255 / max(high - low, 1e-12))
    return Image.fromarray(scaled.round().astype(np.uint8))


@contextmanager
def _as_image_error(name: Path | str) -> Iterator[None]:
    """Whatever goes wrong inside becomes one line about `name`: PIL's decoders raise anything."""
    try:
        with warnings.catch_warnings():
            # Remarks on metadata, and on sizes that are below our own limit.
            warnings.filterwarnings("ignore", module="PIL")
            yield
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"{name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or only the beginning of one, or one without pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    said = " ".join(str(error).split()) or type(error).__name__
    too_large = isinstance(error, (Image.DecompressionBombError, MemoryError))
    return f"{'too large' if too_large else 'damaged'}: {said}"


def _images_below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(parent, name) for name in files if not name.startswith("."))
        yield from filter(_is_image, paths)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and os.path.isfile(path)  # noqa: PTH113


def _check_size(size: int) -> int:
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"size is {size!r}; it must be a whole number of pixels, at least 1")
    return size


def _central_square(image: Image.Image) -> tuple[float, float, float, float]:
    side = min(image.size)
    left, top = ((length - side) / 2 for length in image.size)
    return left, top, left + side, top + side
