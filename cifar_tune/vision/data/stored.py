"""Writes a decoded dataset as plain .npy files with a meta.json, and reads it back, checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cifar_tune.errors import DataError
from cifar_tune.vision.data.dataset import Dataset, Decoded, Images, Statistics, Uint8Array
from cifar_tune.vision.data.pictures import VERSION

FORMAT = 1  # raise it when the files change their meaning; older entries are then decoded anew
META_NAME = "meta.json"
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


class DamagedEntryError(Exception):
    """What is stored is not what was written; the cache rebuilds it."""


class OutdatedEntryError(DamagedEntryError):
    """What is stored was decoded by a version that read image files in another way."""


def write_dataset(decoded: Decoded, source: str, listing: str, folder: Path) -> Dataset:
    """Writes the arrays, then meta.json: a folder without it is never taken for whole."""
    train, test = decoded.train, decoded.test
    in_order = (train.images, train.labels, test.images, test.labels)
    arrays: dict[str, NDArray[Any]] = dict(zip(ARRAYS, in_order, strict=True))
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    mean, std = channel_statistics(train.images)
    digests = {name: _digest(array) for name, array in arrays.items()}
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
        fingerprint=_fingerprint(decoded.classes, digests),
        decoder=VERSION,
        sizes=decoded.sizes,
        folder=folder,
    )
    (folder / META_NAME).write_text(dataset.model_dump_json(indent=1), encoding="utf-8")
    return dataset


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
    if stored.fingerprint != _fingerprint(stored.classes, stored.digests):
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
    """Images of each class in one split. Raises DamagedEntryError."""
    labels = _open_array(dataset, f"{split}_labels")
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


def channel_statistics(images: Uint8Array) -> tuple[Statistics, Statistics]:
    """Mean and standard deviation of red, green and blue over [n, 32, 32, 3] uint8, from 0 to 1."""
    pixels = images.reshape(-1, 3)
    counts = np.zeros((3, 256), np.int64)  # exact, and independent of the order of summation
    for start in range(0, len(pixels), 1 << 20):
        part = pixels[start : start + (1 << 20)]
        for channel in range(3):
            counts[channel] += np.bincount(part[:, channel], minlength=256)
    values = np.arange(256) / 255
    mean = (counts * values).sum(axis=1) / len(pixels)
    variance = (counts * (values - mean[:, None]) ** 2).sum(axis=1) / len(pixels)
    return tuple(mean.tolist()), tuple(np.sqrt(variance).tolist())


def _open_array(dataset: Dataset, name: str) -> NDArray[Any]:
    file = dataset.folder / f"{name}.npy"
    try:
        array = np.lib.format.open_memmap(file, mode="r")  # .npy only, never a pickle
    except (OSError, ValueError) as error:
        raise DamagedEntryError(f"{file.name} can't be read") from error
    dtype = np.uint8 if name.endswith("images") else np.int64
    if array.shape != dataset.shapes[name] or array.dtype != dtype:
        raise DamagedEntryError(f"{file.name} has another shape")
    if _digest(array) != dataset.digests[name]:
        raise DamagedEntryError(f"{file.name} does not have its checksum")
    return array.view(np.ndarray)  # a copy of a part is then a plain array


def _digest(array: NDArray[Any]) -> str:
    content = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{content.dtype.str} {content.shape} ".encode())
    digest.update(content.data.cast("B"))
    return digest.hexdigest()


def _fingerprint(classes: tuple[str, ...], digests: dict[str, str]) -> str:
    content = json.dumps({"classes": classes, "arrays": [digests[name] for name in ARRAYS]})
    return hashlib.sha256(content.encode()).hexdigest()
