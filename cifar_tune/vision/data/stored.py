"""Writes a decoded dataset as plain .npy files with a meta.json, and reads it back, checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from cifar_tune.errors import DataError
from cifar_tune.vision.data.dataset import (
    Dataset,
    Decoded,
    Images,
    Kind,
    Sizes,
    Statistics,
    Uint8Array,
)
from cifar_tune.vision.data.pictures import VERSION

FORMAT = 1  # raise it when the files change their meaning; older entries are then decoded anew
META_NAME = "meta.json"
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


class DamagedEntryError(Exception):
    """What is stored is not what was written; the cache rebuilds it."""


class OutdatedEntryError(DamagedEntryError):
    """What is stored was decoded by a version that read image files in another way."""


class Meta(BaseModel):
    """What meta.json says of a stored dataset; `decoder` and `sizes` came later than the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    kind: Kind
    source: str
    listing: str
    classes: tuple[str, ...]
    mean: Statistics
    std: Statistics
    notes: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    digests: dict[str, str]
    fingerprint: str
    decoder: int = 1
    sizes: Sizes | None = None


def write_dataset(decoded: Decoded, source: str, listing: str, folder: Path) -> Meta:
    """Writes the arrays, then meta.json: a folder without it is never taken for whole.

    `listing` is the source's names and sizes as a digest (sources.Identity).
    """
    train, test = decoded.train, decoded.test
    in_order = (train.images, train.labels, test.images, test.labels)
    arrays: dict[str, NDArray[Any]] = dict(zip(ARRAYS, in_order, strict=True))
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    mean, std = channel_statistics(decoded.train.images)
    digests = {name: _digest(array) for name, array in arrays.items()}
    meta = Meta(
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
    )
    (folder / META_NAME).write_text(meta.model_dump_json(indent=1), encoding="utf-8")
    return meta


def read_meta(folder: Path) -> Meta:
    """Reads meta.json alone.

    Raises DamagedEntryError where it is not there or not ours, OutdatedEntryError where image files
    would be decoded in another way today.
    """
    try:
        meta = Meta.model_validate_json((folder / META_NAME).read_bytes())
    except (OSError, ValidationError) as error:
        raise DamagedEntryError(f"{META_NAME} can't be read") from error
    if meta.format != FORMAT or set(meta.digests) != set(ARRAYS) or set(meta.shapes) != set(ARRAYS):
        raise DamagedEntryError(f"{META_NAME} is of another format")
    if meta.fingerprint != _fingerprint(meta.classes, meta.digests):
        raise DamagedEntryError(f"{META_NAME} does not fit its own fingerprint")
    if meta.kind == "images" and meta.decoder != VERSION:
        raise OutdatedEntryError("another version read image files in another way")
    return meta


def read_dataset(folder: Path) -> Dataset:
    """Describes a stored dataset after checking every byte of it.

    Raises DamagedEntryError.
    """
    meta = read_meta(folder)
    for name in ARRAYS:
        _open_array(folder, name, meta)
    return describe_dataset(folder)


def describe_dataset(folder: Path) -> Dataset:
    """Describes a stored dataset by its meta.json alone; `open_images` checks what it opens.

    Raises DamagedEntryError.
    """
    meta = read_meta(folder)
    return Dataset(
        kind=meta.kind,
        source=meta.source,
        fingerprint=meta.fingerprint,
        classes=meta.classes,
        mean=meta.mean,
        std=meta.std,
        folder=folder,
        train_size=meta.shapes["train_labels"][0],
        test_size=meta.shapes["test_labels"][0],
        notes=meta.notes,
        sizes=meta.sizes,
    )


def class_counts(dataset: Dataset, split: str) -> tuple[int, ...]:
    """Images of each class in one split. Raises DamagedEntryError."""
    labels = _open_array(dataset.folder, f"{split}_labels", read_meta(dataset.folder))
    return tuple(np.bincount(labels, minlength=len(dataset.classes)).tolist())


def open_images(dataset: Dataset, split: str) -> Images:
    """Maps one split of a prepared dataset, "train" or "test", into memory, read-only and checked.

    Raises DataError where it was damaged or deleted since it was prepared.
    """
    try:
        meta = read_meta(dataset.folder)
        if meta.fingerprint != dataset.fingerprint:
            raise DamagedEntryError("it holds another dataset now")
        images = cast(Uint8Array, _open_array(dataset.folder, f"{split}_images", meta))
        return Images(images, _open_array(dataset.folder, f"{split}_labels", meta))
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
    return _three(mean), _three(np.sqrt(variance))


def _three(values: NDArray[np.float64]) -> Statistics:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _open_array(folder: Path, name: str, meta: Meta) -> NDArray[Any]:
    file = folder / f"{name}.npy"
    try:
        array = np.lib.format.open_memmap(file, mode="r")  # .npy only, never a pickle
    except (OSError, ValueError) as error:
        raise DamagedEntryError(f"{file.name} can't be read") from error
    dtype = np.uint8 if name.endswith("images") else np.int64
    if array.shape != meta.shapes[name] or array.dtype != dtype:
        raise DamagedEntryError(f"{file.name} has another shape")
    if _digest(array) != meta.digests[name]:
        raise DamagedEntryError(f"{file.name} does not have its checksum")
    return cast(NDArray[Any], array.view(np.ndarray))  # a copy of a part is then a plain array


def _digest(array: NDArray[Any]) -> str:
    content = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{content.dtype.str} {content.shape} ".encode())
    digest.update(content.data.cast("B"))
    return digest.hexdigest()


def _fingerprint(classes: tuple[str, ...], digests: dict[str, str]) -> str:
    content = json.dumps({"classes": classes, "arrays": [digests[name] for name in ARRAYS]})
    return hashlib.sha256(content.encode()).hexdigest()
