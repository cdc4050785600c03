"""Small datasets as files: PNGs by class, and batches as the official distributions have them."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path

import numpy as np
from PIL import Image

from cifar_tune.vision.data.official import Checksums

NAMES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")
BATCHES = (*NAMES, "test_batch")


def picture(seed: int, width: int = 32, height: int = 32) -> Image.Image:
    """Noise in RGB."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    """An image as the content of a file."""
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def image_members(classes: tuple[str, ...] = ("cat", "dog"), train: int = 6) -> dict[str, bytes]:
    """Files of an image dataset by name: `train` training images a class and two test images."""
    members = {}
    for label, name in enumerate(classes):
        for split, count in (("train", train), ("test", 2)):
            for number in range(count):
                seed = 1000 * label + number + (500 if split == "test" else 0)
                members[f"{split}/{name}/{number:03}.png"] = encoded(picture(seed))
    return members


def write_tree(folder: Path, members: dict[str, bytes]) -> Path:
    """Writes members as files below a folder."""
    for name, content in members.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder


def official_arrays(images: int = 20) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pixels [n, 3072] and labels [n] of six official batches, by name."""
    generator = np.random.default_rng(7)
    return {
        name: (
            generator.integers(0, 256, (images, 3072), np.uint8),
            generator.permutation(np.arange(images) % 10),
        )
        for name in BATCHES
    }


def python_members() -> dict[str, bytes]:
    """The six batches as the official python distribution pickles them, by file name."""
    return {
        name: pickle.dumps({b"data": pixels, b"labels": labels.tolist(), b"batch_label": b"x"}, 2)
        for name, (pixels, labels) in official_arrays().items()
    }


def binary_members() -> dict[str, bytes]:
    """The six batches as the official binary distribution writes them, by file name."""
    return {
        f"{name}.bin": np.hstack([labels[:, None].astype(np.uint8), pixels]).tobytes()
        for name, (pixels, labels) in official_arrays().items()
    }


def checksums_of(members: dict[str, bytes]) -> Checksums:
    """Checksums under which these members are the official ones."""
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
    return {"cifar10-python": sums, "cifar10-binary": sums}
