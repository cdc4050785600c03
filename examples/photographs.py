"""A folder of pictures, as you may have one: three fabrics, of many sizes, known by their weave.

    python examples/photographs.py my_images
    cifar-tune tune --data-dir my_images

The first command draws the folder, a class a folder and no test part; the second does the rest.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

WEAVES = ("striped", "checked", "dotted")


def draw(weave: str, generator: np.random.Generator) -> Image.Image:
    """One piece of fabric: a fine pattern in two colours, at an angle, in uneven light."""
    width, height = generator.integers(96, 200, size=2)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle, period = generator.uniform(0, np.pi), generator.uniform(5, 9)
    along = 2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period
    across = 2 * np.pi * (y * np.cos(angle) - x * np.sin(angle)) / period
    if weave == "striped":
        pattern = np.sin(along)
    elif weave == "checked":
        pattern = np.sign(np.sin(along) * np.sin(across))
    else:
        pattern = np.where(np.sin(along) + np.sin(across) > 1, 1.0, -1.0)
    ground = generator.uniform(90, 220, size=3)
    thread = ground * generator.uniform(0.3, 0.7)
    light = 0.7 + 0.6 * x / width * generator.uniform() + 0.05 * generator.normal(size=x.shape)
    mixed = ground + (pattern[..., None] + 1) / 2 * (thread - ground)
    return Image.fromarray((mixed * light[..., None]).clip(0, 255).astype(np.uint8))


def main(folder: str, each: str = "100") -> None:
    """Draw `each` images of every class into `folder`."""
    generator = np.random.default_rng(0)
    for weave in WEAVES:
        place = Path(folder, weave)
        place.mkdir(parents=True, exist_ok=True)
        for number in range(int(each)):
            draw(weave, generator).save(place / f"{number:03}.jpg", quality=90)


if __name__ == "__main__":
    main(*sys.argv[1:])
