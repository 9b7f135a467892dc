"""Pixels of the generated scenes: coloured shapes, antialiased, on textured and noisy backgrounds.

Everything is placed in fractions of the image, so that a larger drawing is the same scene, sharper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from captioner.data.records import Box

COLOURS = {
    "red": (208, 32, 40),
    "orange": (244, 128, 16),
    "yellow": (246, 220, 40),
    "green": (30, 150, 55),
    "blue": (35, 80, 215),
    "purple": (145, 35, 185),
    "white": (245, 245, 245),
    "black": (16, 16, 18),
}

FINER = 4  # a shape's mask is drawn this much larger and averaged down


@dataclass(frozen=True)
class Shape:
    """One drawn object: centre `x`, `y` and `radius` in fractions of the image.

    `rotation` is in radians, clockwise as the image is seen. `rgb` is in 0-255.
    """

    kind: str
    rgb: tuple[int, int, int]
    x: float
    y: float
    radius: float
    rotation: float

    def place(self, polygon: np.ndarray) -> np.ndarray:
        """Turns, grows and moves a polygon (corners, 2) around the origin to where the shape is."""
        cos, sin = np.cos(self.rotation), np.sin(self.rotation)
        turn = np.array([[cos, sin], [-sin, cos]])
        return polygon @ turn * self.radius + (self.x, self.y)

    def box(self) -> Box:
        """The tight box around the shape."""
        corners = self.place(OUTLINES[self.kind])
        return (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())


def draw(shapes: Sequence[Shape], seed: int, size: int) -> Image.Image:
    """An RGB picture of `size` × `size` pixels; background and noise depend on `seed` alone."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(_background(rng, size))
    for shape in shapes:
        _paint(image, shape)
    strength = rng.uniform(3, 9)  # grey levels
    noise = strength * rng.standard_normal((size, size, 1), dtype=np.float32)
    noisy = np.asarray(image) + noise
    return Image.fromarray(np.clip(noisy, 0, 255, out=noisy).astype(np.uint8))


def _paint(image: Image.Image, shape: Shape) -> None:
    corners = shape.place(OUTLINES[shape.kind]) * image.width
    low = np.floor(corners.min(axis=0)).astype(int)
    high = np.ceil(corners.max(axis=0)).astype(int)
    mask = Image.new("L", tuple(((high - low) * FINER).tolist()))

    def fill(polygon: np.ndarray, value: int) -> None:
        # Pillow's corners are pixel centres, hence the half.
        within = (polygon - low) * FINER - 0.5
        ImageDraw.Draw(mask).polygon(within.ravel().tolist(), fill=value)

    fill(corners, 255)
    if shape.kind in HOLES:
        fill(shape.place(HOLES[shape.kind]) * image.width, 0)
    image.paste(shape.rgb, tuple(low.tolist()), mask.reduce(FINER))


# Outlines: polygons around the origin, of radius about 1, y pointing down. They have about the
# same area, apart from the open ones, so that a small square is not taken for a tiny one.


def _arc(radius: float, start: float, end: float, x: float = 0, corners: int = 48) -> np.ndarray:
    angle = np.linspace(start, end, corners)
    return np.stack([x + radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _star() -> np.ndarray:
    angle = np.arange(10) * np.pi / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2 == 0, 1.15, 0.5)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle) + 0.06], axis=1)


def _cross() -> np.ndarray:
    reach, arm = 1.0, 0.34
    quarter = np.array([[arm, -reach], [arm, -arm], [reach, -arm]])
    turns = [np.array([[c, s], [-s, c]]) for c, s in [(1, 0), (0, 1), (-1, 0), (0, -1)]]
    return np.concatenate([quarter @ turn for turn in turns])


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 48)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y - 2.5], axis=1) / 15


def _crescent() -> np.ndarray:
    outer = _arc(1.05, np.pi / 4.2, 2 * np.pi - np.pi / 4.2)
    # Back along a circle further right, through the two tips.
    x = 0.52
    tip = outer[0] - (x, 0)
    angle = np.arctan2(tip[1], tip[0])
    inner = _arc(np.hypot(*tip), 2 * np.pi - angle, angle, x)
    return np.concatenate([outer, inner]) + np.array([0.15, 0])


OUTLINES = {
    "circle": _arc(0.95, 0, 2 * np.pi),
    "square": 0.87 * np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]),
    "triangle": np.array([[0, -1.05], [1.1, 0.85], [-1.1, 0.85]]),
    "star": _star(),
    "cross": _cross(),
    "heart": _heart(),
    "ring": _arc(1, 0, 2 * np.pi),
    "crescent": _crescent(),
}
HOLES = {"ring": _arc(0.52, 0, 2 * np.pi)}
KINDS = tuple(OUTLINES)


# Backgrounds: a muted gradient plus a texture, between the greys where black and white both show.


@lru_cache(maxsize=4)
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The x (1, size) and y (size, 1) of the pixels' centres, as fractions."""
    step = (np.arange(size, dtype=np.float32) + 0.5) / size
    return step[None, :], step[:, None]


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    grey = rng.uniform(105, 155)
    tint = rng.uniform(-12, 12, 3).astype(np.float32)
    slope = (rng.uniform(-40, 40) + rng.uniform(-14, 14, 3)).astype(np.float32)
    ramp = _across(rng, size)[..., None]
    texture = TEXTURES[rng.integers(len(TEXTURES))](rng, size)[..., None]
    contrast = np.float32(rng.uniform(7, 15))
    return (grey + tint + slope * ramp + contrast * texture).astype(np.uint8)


def _across(rng: np.random.Generator, size: int) -> np.ndarray:
    """A ramp that rises by 1 over the image's width in a random direction, 0 in the centre."""
    x, y = _grid(size)
    angle = rng.uniform(0, 2 * np.pi)
    return (x - 0.5) * np.float32(np.cos(angle)) + (y - 0.5) * np.float32(np.sin(angle))


def _plain(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.zeros((size, size), np.float32)


def _stripes(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.sin(_across(rng, size) * np.float32(rng.uniform(25, 70)))


def _checks(rng: np.random.Generator, size: int) -> np.ndarray:
    waves = np.float32(rng.uniform(14, 40))
    x, y = _grid(size)
    lean = np.float32(rng.uniform(-0.4, 0.4))
    return np.sign(np.sin((x + lean * y) * waves) * np.sin((y - lean * x) * waves))


def _cells(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Smooth noise with `cells` lumps along each side."""
    lumps = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(lumps.resize((size, size), Image.Resampling.BILINEAR))


def _blobs(rng: np.random.Generator, size: int) -> np.ndarray:
    return 1.3 * _cells(rng, size, int(rng.integers(5, 10)))


def _speckle(rng: np.random.Generator, size: int) -> np.ndarray:
    return 1.3 * _cells(rng, size, 40)


def _waves(rng: np.random.Generator, size: int) -> np.ndarray:
    x, y = _grid(size)
    bend = np.float32(rng.uniform(0.02, 0.06)) * np.sin(x * np.float32(rng.uniform(8, 20)))
    return np.sin((y + bend) * np.float32(rng.uniform(25, 60)))


TEXTURES = (_plain, _stripes, _checks, _blobs, _speckle, _waves)
