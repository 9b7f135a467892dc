"""Every kind of picture opens as the same upright RGB; everything else is one clear line."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, features

from captioner.data.images import ImageError, find_images, open_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
FILES_OPEN = Path("/proc/self/fd")


def quadrants(width=64, height=32):
    """Red and green above, blue and white below."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(WHITE, (width // 2, height // 2, width, height))
    return image


def corners(image):
    """Colours in the middle of each quadrant, row by row."""
    points = [(x, y) for y in (0.25, 0.75) for x in (0.25, 0.75)]
    return [image.getpixel((int(x * image.width), int(y * image.height))) for x, y in points]


def near(found, wanted, by=12):
    return np.abs(np.subtract(found, wanted, dtype=int)).max() <= by


def png_header(width, height):
    """A PNG that promises pixels and has none."""

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


FORMATS = "jpg RGB, jpg CMYK, png RGB, png P, bmp RGB, gif P, webp RGB, tiff RGB, tiff CMYK"


@pytest.mark.parametrize("kind", FORMATS.split(", ") + ["avif RGB"] * features.check("avif"))
def test_colour_survives_every_format_and_mode(tmp_path, kind):
    suffix, mode = kind.split()
    path = tmp_path / f"picture.{suffix}"
    quadrants().convert(mode).save(path)
    image = open_image(path)
    assert image.mode == "RGB" and image.size == (64, 32)
    assert near(corners(image), [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize(("mode", "suffix"), [("1", "png"), ("L", "jpg"), ("L", "png")])
def test_grey_becomes_equal_channels(tmp_path, mode, suffix):
    path = tmp_path / f"grey.{suffix}"
    Image.new(mode, (8, 8), 255).save(path)
    assert near(open_image(str(path)).getpixel((4, 4)), WHITE)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa"])
def test_transparency_shows_white(mode):
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), (0, 0, 2, 4))
    image = open_image(clear.convert("P" if mode == "PA" else mode).convert(mode))
    assert image.getpixel((3, 0)) == WHITE and image.getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_a_transparent_palette_colour_shows_white(tmp_path, suffix):
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (2, 0, 4, 4))
    image.save(tmp_path / f"p.{suffix}", transparency=1)
    opened = open_image(tmp_path / f"p.{suffix}")
    assert opened.getpixel((0, 0)) == RED and opened.getpixel((3, 0)) == WHITE


@pytest.mark.parametrize(
    ("mode", "values", "wanted"),
    [
        ("I;16", [0, 32896, 65535], [0, 128, 255]),
        ("I", [0, 32896, 65535], [0, 128, 255]),
        ("I", [-1_000_000, 0, 1_000_000], [0, 128, 255]),
        ("F", [0, 0.5, 1], [0, 128, 255]),
        ("F", [0, 128, 255], [0, 128, 255]),
        ("F", [-2, 0, 2], [0, 128, 255]),
        ("F", [float("nan"), 0.5, 1], [0, 128, 255]),
        ("F", [7e6, 7e6, 7e6], [0, 0, 0]),
    ],
)
def test_deep_grey_is_scaled_not_clipped(tmp_path, mode, values, wanted):
    kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    path = tmp_path / "deep.tiff"
    Image.fromarray(np.array([values], kind)).save(path)
    with Image.open(path) as stored:
        assert stored.mode == mode
    opened = np.asarray(open_image(path))[0]
    assert near(opened, np.array(wanted)[:, None], by=1)


def test_sixteen_bit_png(tmp_path):
    Image.fromarray(np.full((4, 4), 32896, np.uint16)).save(tmp_path / "deep.png")
    assert open_image(tmp_path / "deep.png").getpixel((0, 0)) == (128, 128, 128)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_ends_upright(tmp_path, orientation, suffix):
    turn = Image.Transpose
    undo = [turn.FLIP_LEFT_RIGHT, turn.ROTATE_180, turn.FLIP_TOP_BOTTOM, turn.TRANSPOSE]
    undo += [turn.ROTATE_90, turn.TRANSVERSE, turn.ROTATE_270]  # from upright to what 2…8 store
    stored = quadrants()
    if orientation > 1:
        stored = stored.transpose(undo[orientation - 2])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"turned.{suffix}", exif=exif)
    image = open_image(tmp_path / f"turned.{suffix}")
    assert image.size == (64, 32)
    assert near(corners(image), [RED, GREEN, BLUE, WHITE])


def test_damaged_exif_does_not_cost_the_picture(tmp_path):
    quadrants().save(tmp_path / "a.png", exif=b"Exif\x00\x00no TIFF header")
    assert near(corners(open_image(tmp_path / "a.png")), [RED, GREEN, BLUE, WHITE])


def test_a_bad_exif_tag_does_not_cost_the_orientation(tmp_path):
    tags = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0), struct.pack(">HHI4s", 0x0100, 2, 1, b"A")
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + b"".join(tags) + bytes(4)
    quadrants().transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.jpg", exif=exif)
    assert near(corners(open_image(tmp_path / "a.jpg")), [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_first_frame_of_several(tmp_path, suffix):
    path = tmp_path / f"moving.{suffix}"
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with Image.open(path) as stored:
        assert stored.n_frames == 3
    assert near(open_image(path).getpixel((8, 8)), RED)


def test_pictures_in_memory_and_drawn_ones():
    class Scene:
        def draw(self):
            return quadrants().convert("RGBA")

    given = quadrants()
    opened = open_image(given)
    assert opened is not given and opened.tobytes() == given.tobytes()
    assert open_image(Scene()).tobytes() == given.tobytes()


def broken(path, kind):
    """Makes the file `path` unusable in some way."""
    quadrants(200, 200).save(path, "PNG" if kind == "cut png" else "JPEG")
    whole = path.read_bytes()
    if kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "missing":
        path.unlink()
    else:
        contents = {
            "empty": b"",
            "text": b"not an image\n",
            "cut header": whole[:15],
            "cut jpeg": whole[: len(whole) // 2],
            "cut png": whole[: len(whole) // 2],
            "no pixels": png_header(0, 5),
            "over our limit": png_header(10_001, 10_000),
            "over PIL's limit": png_header(60_000, 60_000),
        }
        path.write_bytes(contents[kind])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("folder", "a folder"),
        ("missing", "no such file"),
        ("empty", "empty"),
        ("text", "not an image"),
        ("cut header", "not an image|damaged"),
        ("cut jpeg", "damaged"),
        ("cut png", "damaged"),
        ("no pixels", "without pixels"),
        ("over our limit", "10001×10000 pixels are too many"),
        ("over PIL's limit", "too large"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_unusable_files_are_named_in_one_line(tmp_path, kind, message):
    path = tmp_path / "picture.jpg"
    broken(path, kind)
    with pytest.raises(ImageError, match=message) as caught:
        open_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_a_file_without_permission(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    quadrants().save(tmp_path / "a.png")
    monkeypatch.setattr(Path, "open", refuse)  # chmod would not stop root
    with pytest.raises(ImageError, match=r"a\.png: permission denied"):
        open_image(tmp_path / "a.png")


def test_size_is_refused_before_pixels_are_decoded(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_header(300, 300))  # decoding it would say "damaged"
    with pytest.raises(ImageError, match="too many"):
        open_image(tmp_path / "bomb.png", max_pixels=89_999)
    with pytest.raises(ImageError, match="damaged"):
        open_image(tmp_path / "bomb.png", max_pixels=90_000)


@pytest.mark.parametrize("source", [None, b"bytes", Image.new("RGB", (0, 4))])
def test_unusable_objects(source):
    with pytest.raises(ImageError, match=r"no picture|no pixels"):
        open_image(source)


@pytest.mark.skipif(not FILES_OPEN.is_dir(), reason="needs /proc")
def test_no_file_stays_open(tmp_path):
    quadrants().save(tmp_path / "whole.gif", save_all=True, append_images=[quadrants()])
    broken(tmp_path / "cut.jpg", "cut jpeg")
    before = len(list(FILES_OPEN.iterdir()))
    kept = [open_image(tmp_path / "whole.gif") for _ in range(5)]
    for _ in range(5):
        with pytest.raises(ImageError):
            open_image(tmp_path / "cut.jpg")
    assert len(list(FILES_OPEN.iterdir())) == before and len(kept) == 5


@pytest.fixture
def album(tmp_path):
    for name in ["b.PNG", "a.jpg", "below/c.webp", ".hidden.jpg", ".cache/d.jpg", "notes.txt"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("", ["a.jpg", "b.PNG", "below/c.webp"]),
        ("*.jpg", ["a.jpg"]),
        ("*", ["a.jpg", "b.PNG"]),
        ("**/*", ["a.jpg", "b.PNG", "below/c.webp"]),
        ("notes.txt", ["notes.txt"]),
        (".hidden.jpg", [".hidden.jpg"]),
    ],
)
def test_find_images(album, pattern, wanted):
    assert find_images(album / pattern) == [album / name for name in wanted]
    assert find_images(str(album / pattern)) == [album / name for name in wanted]


def test_find_images_takes_names_with_glob_characters(album):
    (album / "a[1].jpg").write_bytes(b"")
    assert find_images(album / "a[1].jpg") == [album / "a[1].jpg"]


@pytest.mark.parametrize("pattern", ["nowhere.jpg", "*.gif", "folder.jpg", "no/folder/*", "~x/y"])
def test_find_images_says_what_it_looked_for(album, pattern):
    with pytest.raises(ValueError, match=r"^no image") as caught:
        find_images(album / pattern)
    assert pattern in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("pattern", ["", "~nobody-of-that-name/a.jpg"])
def test_find_images_refuses_what_names_nothing(pattern):
    with pytest.raises(ValueError, match="no image file or folder"):
        find_images(pattern)
