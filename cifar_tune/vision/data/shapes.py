"""Ten outlines as distance functions, vectorised over images: what the drawn set's classes are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]  # [n, 32, 32]: a coordinate, or a distance, in units of the radius
Outline = Callable[[Field, Field], Field]


def disc(x: Field, y: Field) -> Field:
    return np.hypot(x, y) - np.float32(0.8)


def ring(x: Field, y: Field) -> Field:
    return np.abs(np.hypot(x, y) - np.float32(0.68)) - np.float32(0.24)


def square(x: Field, y: Field) -> Field:
    return _box(x, y, 0.72, 0.72)


def frame(x: Field, y: Field) -> Field:
    return np.abs(_box(x, y, 0.6, 0.6)) - np.float32(0.2)


def triangle(x: Field, y: Field) -> Field:
    turns = 2 * np.pi * np.arange(3) / 3
    edges = [x * np.float32(np.cos(t)) + y * np.float32(np.sin(t)) for t in turns]
    distance: Field = np.maximum.reduce(edges) - np.float32(0.5)
    return distance


def cross(x: Field, y: Field) -> Field:
    both: Field = np.minimum(_box(x, y, 0.95, 0.27), _box(x, y, 0.27, 0.95))
    return both


def star(x: Field, y: Field) -> Field:
    """Five arms: the radius of the edge swings with the angle."""
    swing = np.cos(5 * np.arctan2(y, x)) * np.float32(0.3)
    edge: Field = np.hypot(x, y) - np.float32(0.68) - swing
    return edge


def bar(x: Field, y: Field) -> Field:
    return _box(x, y, 1.05, 0.28)


def crescent(x: Field, y: Field) -> Field:
    bite = np.float32(0.66) - np.hypot(x - np.float32(0.45), y)
    left: Field = np.maximum(np.hypot(x, y) - np.float32(0.88), bite)
    return left


def pair(x: Field, y: Field) -> Field:
    """Two discs side by side."""
    return np.hypot(np.abs(x) - np.float32(0.56), y) - np.float32(0.42)


OUTLINES: dict[str, Outline] = {
    "bar": bar,
    "crescent": crescent,
    "cross": cross,
    "disc": disc,
    "frame": frame,
    "pair": pair,
    "ring": ring,
    "square": square,
    "star": star,
    "triangle": triangle,
}


def _box(x: Field, y: Field, half_width: float, half_height: float) -> Field:
    return np.maximum(np.abs(x) - np.float32(half_width), np.abs(y) - np.float32(half_height))
