"""Writes a decoded dataset as plain .npy files with a meta.json, and reads it back, checked."""

from __future__ import annotations

import hashlib
import json
import math
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from cifar_tune.errors import DataError
from cifar_tune.vision.data.dataset import (
    Dataset,
    Decoded,
    Images,
    Int64Array,
    MappedImages,
    Statistics,
    Uint8Array,
)
from cifar_tune.vision.data.pictures import VERSION, brought_to
from cifar_tune.vision.data_config import SIDE, Resize

FORMAT = 1  # raise it when the files change their meaning; older entries are then decoded anew
META_NAME = "meta.json"
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


class DamagedEntryError(Exception):
    """What is stored is not what was written; the cache rebuilds it."""


class OutdatedEntryError(DamagedEntryError):
    """What is stored was decoded by a version that read image files in another way."""


def write_dataset(
    decoded: Decoded,
    source: str,
    listing: str,
    folder: Path,
    side: int = SIDE,
    resize: Resize = "squash",
) -> Dataset:
    """Writes the arrays, then meta.json: a folder without it is never taken for whole.

    `side` and `resize` are what image files were brought to; other images are brought to it here.
    """
    train, test = decoded.train, decoded.test
    labels = {"train_labels": train.labels, "test_labels": test.labels}
    for name, array in labels.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    if not decoded.in_place:
        for name, part in (("train_images", train), ("test_images", test)):
            _save_images(folder / f"{name}.npy", part.images, side)
    arrays = {name: _mapped(folder / f"{name}.npy") for name in ARRAYS}
    mean, std = channel_statistics(arrays["train_images"][: decoded.val_start])
    digests = {name: _digest(folder / f"{name}.npy", array) for name, array in arrays.items()}
    dataset = Dataset(
        format=FORMAT,
        kind=decoded.kind,
        source=source,
        listing=listing,
        classes=decoded.classes,
        mean=mean,
        std=std,
        notes=decoded.notes,
        shapes={name: array.shape for name, array in arrays.items()},
        digests=digests,
        fingerprint=_fingerprint(decoded.classes, digests, decoded.val_start),
        decoder=VERSION,
        sizes=decoded.sizes,
        image_size=side,
        resize=resize,
        val_start=decoded.val_start,
        cut=decoded.cut,
        suggested=decoded.suggested,
        folder=folder,
    )
    (folder / META_NAME).write_text(dataset.model_dump_json(indent=1), encoding="utf-8")
    return dataset


def _save_images(path: Path, images: Uint8Array, side: int) -> None:
    """Saves [n, h, h, 3] as [n, side, side, 3], a part at a time."""
    if images.shape[1] == side:
        np.save(path, images, allow_pickle=False)
        return
    shape = (len(images), side, side, 3)
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with path.open("r+b") as file:
        file.seek(-math.prod(shape), os.SEEK_END)
        for image in images:
            file.write(brought_to(Image.fromarray(image), side, "squash").tobytes())


def describe_dataset(folder: Path) -> Dataset:
    """Describes a stored dataset by its meta.json alone; `open_images` checks what it opens.

    Raises DamagedEntryError where it is not there or not ours, OutdatedEntryError where image files
    would be decoded in another way today.
    """
    try:
        stored = Dataset.model_validate_json((folder / META_NAME).read_bytes())
    except (OSError, ValidationError) as error:
        raise DamagedEntryError(f"{META_NAME} can't be read") from error
    if stored.format != FORMAT or not set(stored.digests) == set(stored.shapes) == set(ARRAYS):
        raise DamagedEntryError(f"{META_NAME} is of another format")
    if stored.fingerprint != _fingerprint(stored.classes, stored.digests, stored.val_start):
        raise DamagedEntryError(f"{META_NAME} does not fit its own fingerprint")
    if stored.kind == "images" and stored.decoder != VERSION:
        raise OutdatedEntryError("another version read image files in another way")
    return stored.model_copy(update={"folder": folder})


def read_dataset(folder: Path) -> Dataset:
    """Describes a stored dataset after checking every byte of it. Raises as `describe_dataset`."""
    dataset = describe_dataset(folder)
    for name in ARRAYS:
        _open_array(dataset, name)
    return dataset


def class_counts(dataset: Dataset, split: str) -> tuple[int, ...]:
    """Images of each class in training, test, or the source's own validation images.

    Raises DamagedEntryError."""
    labels = _open_array(dataset, f"{'test' if split == 'test' else 'train'}_labels")
    if split != "test":
        part = slice(dataset.train_size, None) if split == "val" else slice(dataset.train_size)
        labels = labels[part]
    return tuple(np.bincount(labels, minlength=len(dataset.classes)).tolist())


def open_images(dataset: Dataset, split: str) -> Images:
    """Maps one split of a prepared dataset, "train" or "test", into memory, read-only and checked.

    Raises DataError where it was damaged, deleted or replaced since it was prepared.
    """
    try:
        images = _open_array(dataset, f"{split}_images")
        return Images(images, _open_array(dataset, f"{split}_labels"))
    except DamagedEntryError as error:
        raise DataError(
            f"the decoded dataset in {dataset.folder} is damaged ({error}); start again, "
            "and it is decoded anew."
        ) from error


def mapped_rows(dataset: Dataset, rows: Int64Array) -> MappedImages:
    """Some training images, to be mapped by any process of this machine."""
    return MappedImages(dataset.folder / "train_images.npy", rows)


def channel_statistics(images: Uint8Array) -> tuple[Statistics, Statistics]:
    """Mean and deviation of red, green and blue over [n, side, side, 3] uint8, from 0 to 1."""
    pixels = images.reshape(-1, 3)
    counts = np.zeros((3, 256), np.int64)  # exact, and independent of the order of summation
    for start in range(0, len(pixels), 1 << 20):
        part = np.ascontiguousarray(pixels[start : start + (1 << 20)])
        line = Image.frombuffer("RGB", (len(part), 1), part, "raw", "RGB", 0, 1)
        counts += np.array(line.histogram(), np.int64).reshape(3, 256)
    values = np.arange(256) / 255
    mean = (counts * values).sum(axis=1) / len(pixels)
    variance = (counts * (values - mean[:, None]) ** 2).sum(axis=1) / len(pixels)
    return tuple(mean.tolist()), tuple(np.sqrt(variance).tolist())


def _open_array(dataset: Dataset, name: str) -> NDArray[Any]:
    file = dataset.folder / f"{name}.npy"
    try:
        array = _mapped(file)
        dtype = np.uint8 if name.endswith("images") else np.int64
        if array.shape != dataset.shapes[name] or array.dtype != dtype:
            raise DamagedEntryError(f"{file.name} has another shape")
        if _digest(file, array) != dataset.digests[name]:
            raise DamagedEntryError(f"{file.name} does not have its checksum")
    except (OSError, ValueError) as error:
        raise DamagedEntryError(f"{file.name} can't be read") from error
    return array


def _mapped(file: Path) -> NDArray[Any]:
    array = np.lib.format.open_memmap(file, mode="r")  # .npy only, never a pickle
    return array.view(np.ndarray)  # a copy of a part is then a plain array


def _digest(file: Path, array: NDArray[Any]) -> str:
    status = file.stat()
    state = (status.st_mtime_ns, status.st_size, status.st_ino)
    return _digest_of_file(file, f"{array.dtype.str} {array.shape} ", array.nbytes, state)


@lru_cache(maxsize=64)
def _digest_of_file(file: Path, head: str, size: int, _state: tuple[int, ...]) -> str:
    """Reads, and does not map, what may be larger than the memory; once while it stays the same."""
    digest = hashlib.sha256(head.encode())
    with file.open("rb") as content:
        content.seek(-size, os.SEEK_END)
        while part := content.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _fingerprint(
    classes: tuple[str, ...], digests: dict[str, str], val_start: int | None = None
) -> str:
    told: dict[str, Any] = {"classes": classes, "arrays": [digests[name] for name in ARRAYS]}
    if val_start is not None:
        told["val_start"] = val_start
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
