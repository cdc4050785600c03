"""Draws the built-in dataset: outlines of random colour, place, size and turn on busy backgrounds.

It is what `quickstart` falls back to without network: seeded, made of nothing but numpy. Outlines
turn and move, so that no template of pixels fits; small, faint and noisy ones keep it from being
solved, and large bright ones show within a few epochs whether a configuration learns at all.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cifar_tune.vision.data.dataset import Decoded, Images, Int64Array, Uint8Array
from cifar_tune.vision.data.shapes import OUTLINES, Field
from cifar_tune.vision.data.sources import Identity
from cifar_tune.vision.data_config import SIDE as IMAGE_SIDE

TRAIN_SIZE, TEST_SIZE = 50_000, 10_000
VERSION = 1  # raise it with a change to what is drawn beyond Difficulty: caches then draw anew
CHUNK = 500  # images drawn at a time: their fields stay in the CPU's cache

FloatArray = NDArray[np.float32]


class Difficulty(NamedTuple):
    """How hard the pictures are to tell apart; each range is drawn from anew for every picture."""

    radius: tuple[float, float] = (5.5, 13.0)  # of the outline, in pixels
    contrast: tuple[float, float] = (0.25, 1.0)  # 1: outline and background as their colours are
    inverted: float = 0.1  # part of the pictures that are dark on light
    noise: tuple[float, float] = (5.0, 60.0)  # log-uniform standard deviation of a pixel, of 255
    distractors: int = 2  # thin lines and dots on the background
    stretch: float = 1.3  # of one axis against the other, at most


HARD = Difficulty()


def drawn_identity(train_size: int, test_size: int) -> Identity:
    """Names a drawn set in the cache."""
    name = f"drawn {VERSION} 0 {train_size} {test_size} {HARD}"  # 0: the seed
    digest = hashlib.sha256(name.encode()).hexdigest()
    return Identity(key=digest, listing=digest)


def draw(train_size: int, test_size: int, seed: int = 0) -> Decoded:
    """Draws the set, [n, 32, 32, 3] uint8 and 10 classes in equal parts, in 10 s for 60,000 images.

    A smaller set is the beginning of a larger one. Equal on machines with the same numpy; another
    version, or other vector units, may round a pixel differently.
    """
    train, test = _draw_split((seed, 0), train_size), _draw_split((seed, 1), test_size)
    return Decoded("drawn", tuple(OUTLINES), train, test)


def _draw_split(seed: tuple[int, int], size: int) -> Images:
    images: Uint8Array = np.empty((size, IMAGE_SIDE, IMAGE_SIDE, 3), np.uint8)
    labels: Int64Array = np.empty(size, np.int64)
    for number, start in enumerate(range(0, size, CHUNK)):
        generator = np.random.default_rng((*seed, number))
        drawn, classes = _draw_chunk(generator)
        end = min(start + CHUNK, size)
        images[start:end], labels[start:end] = drawn[: end - start], classes[: end - start]
    return Images(images, labels)


def _draw_chunk(generator: np.random.Generator) -> tuple[Uint8Array, Int64Array]:
    labels = np.tile(np.arange(len(OUTLINES)), CHUNK // len(OUTLINES))  # any beginning is balanced
    colours = _colours(generator)  # [chunk, 2, 3]
    canvas = _background(generator, colours[:, 0])
    for _ in range(HARD.distractors):
        _add_distractor(generator, canvas)
    x, y, radius = _placed_grid(generator)
    for label, outline in enumerate(OUTLINES.values()):
        chosen = slice(label, None, len(OUTLINES))
        edge = outline(x[chosen], y[chosen]) * radius[chosen]
        _paint(canvas[chosen], edge, colours[chosen, 1])
    quiet, loud = (float(np.log(sigma)) for sigma in HARD.noise)
    sigma = np.exp(generator.uniform(quiet, loud, (CHUNK, 1, 1, 1)))
    canvas += sigma.astype(np.float32) * generator.standard_normal(canvas.shape, np.float32)
    return np.clip(canvas + 0.5, 0, 255).astype(np.uint8), labels


def _colours(generator: np.random.Generator) -> FloatArray:
    """Colours of background and outline, [chunk, 2, 3] from 0 to 255.

    Most are light on dark: with wholly random colours a ResNet-9 had learnt little (0.69) from
    4,000 images in 10 epochs.
    """
    colours = generator.uniform(0, 140, (CHUNK, 2, 3))
    colours[:, 1] = 255 - colours[:, 1]
    inverted = generator.random(CHUNK) < HARD.inverted
    colours[inverted] = colours[inverted, ::-1]
    contrast = generator.uniform(*HARD.contrast, (CHUNK, 1))
    colours[:, 1] = colours[:, 0] + contrast * (colours[:, 1] - colours[:, 0])
    return colours.astype(np.float32)


def _background(generator: np.random.Generator, colour: FloatArray) -> FloatArray:
    """A colour that changes over the picture in a random direction, [chunk, 32, 32, 3]."""
    x, y = _grid()
    angle = generator.uniform(0, 2 * np.pi, (CHUNK, 1, 1)).astype(np.float32)
    ramp = (x * np.cos(angle) + y * np.sin(angle)) / IMAGE_SIDE
    change = generator.uniform(-90, 90, (CHUNK, 1, 1, 3)).astype(np.float32)
    background = colour[:, None, None, :] + ramp[..., None] * change
    return background.astype(np.float32, copy=False)


def _add_distractor(generator: np.random.Generator, canvas: FloatArray) -> None:
    """Paints a thin line or a dot of any colour on each picture, in place."""
    x, y = _grid()
    centre = generator.uniform(-16, 16, (2, CHUNK, 1, 1)).astype(np.float32)
    angle = generator.uniform(0, np.pi, (CHUNK, 1, 1)).astype(np.float32)
    length = generator.uniform(1, 9, (CHUNK, 1, 1)).astype(np.float32)
    dx, dy = x - centre[0], y - centre[1]
    along = np.abs(dx * np.cos(angle) + dy * np.sin(angle)) - length
    across = np.abs(dy * np.cos(angle) - dx * np.sin(angle)) - np.float32(1.0)
    _paint(
        canvas, np.maximum(along, across), generator.uniform(0, 255, (CHUNK, 3)).astype(np.float32)
    )


def _placed_grid(generator: np.random.Generator) -> tuple[Field, Field, FloatArray]:
    """Pixel coordinates as the outline sees them, turned, moved and scaled, and its radius."""
    x, y = _grid()
    radius = generator.uniform(*HARD.radius, (CHUNK, 1, 1)).astype(np.float32)
    room = np.maximum(np.float32(IMAGE_SIDE / 2) - radius, 0)
    centre = generator.uniform(-1, 1, (2, CHUNK, 1, 1)).astype(np.float32) * room
    angle = generator.uniform(0, 2 * np.pi, (CHUNK, 1, 1)).astype(np.float32)
    stretch = generator.uniform(1, HARD.stretch, (CHUNK, 1, 1)).astype(np.float32)
    dx, dy = (x - centre[0]) / radius, (y - centre[1]) / radius
    turned_x = dx * np.cos(angle) + dy * np.sin(angle)
    turned_y = dy * np.cos(angle) - dx * np.sin(angle)
    return turned_x, turned_y * stretch, radius


def _paint(canvas: FloatArray, edge: Field, colour: FloatArray) -> None:
    """Paints, in place, where the distance from an edge is negative, one pixel's width softly."""
    cover = np.clip(np.float32(0.5) - edge, 0, 1)
    canvas += cover[..., None] * (colour[:, None, None, :] - canvas)


def _grid() -> tuple[Field, Field]:
    """Coordinates of the pixels from the picture's middle, [1, 32, 32] each."""
    place = np.arange(IMAGE_SIDE, dtype=np.float32) - np.float32((IMAGE_SIDE - 1) / 2)
    y, x = np.meshgrid(place, place, indexing="ij")
    return x[None], y[None]
