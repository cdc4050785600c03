"""Cuts the training set into confirmation, validation and training images, by a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cifar_tune.errors import DataError
from cifar_tune.vision.config import DataConfig
from cifar_tune.vision.data.dataset import Dataset, Int64Array, SearchData
from cifar_tune.vision.data.stored import open_images


@dataclass(frozen=True)
class SplitIndices:
    """Positions in the dataset's training set, [n] int64 each and without a common member."""

    train: Int64Array
    val: Int64Array
    confirm: Int64Array


def search_data(dataset: Dataset, config: DataConfig) -> SearchData:
    """Copies out what a search may see: `train_size` training and `val_size` validation images.

    Raises DataError where the sizes do not fit the dataset, each other or the batch.
    """
    stored = open_images(dataset, "train")
    split = split_indices(stored.labels, len(dataset.classes), config)
    return SearchData(
        train_images=stored.images[split.train],
        train_labels=stored.labels[split.train],
        val_images=stored.images[split.val],
        val_labels=stored.labels[split.val],
        classes=dataset.classes,
        mean=dataset.mean,
        std=dataset.std,
    )


def split_indices(labels: Int64Array, classes: int, config: DataConfig) -> SplitIndices:
    """Splits the positions 0 to n-1 of a training set with these labels, [n] int64.

    One seeded order of all images is made in which every prefix has the classes in the set's
    proportions (to within one image a class); the parts are cut from its start one after another.
    So they are stratified, a smaller `train_size` is part of a larger one, and neither it nor
    `val_size` moves a confirmation image.
    """
    train_size = _checked_train_size(len(labels), classes, config)
    order = _stratified_order(labels, config.split_seed)
    val_start, train_start = config.confirm_size, config.confirm_size + config.val_size
    return SplitIndices(
        train=order[train_start : train_start + train_size],
        val=order[val_start:train_start],
        confirm=order[:val_start],
    )


def check_batch(train_images: int, config: DataConfig) -> None:
    """Raises DataError where an epoch would have no step at all (Lightning would call it done)."""
    if config.drop_last and config.batch_size > train_images:
        raise DataError(
            f"data.batch_size is {config.batch_size}, but only {train_images} images are trained "
            "on; with data.drop_last an epoch would have no step. Use smaller batches, more "
            "images, or data.drop_last=false."
        )


def _checked_train_size(images: int, classes: int, config: DataConfig) -> int:
    left = images - config.val_size - config.confirm_size
    held = f"data.val_size + data.confirm_size is {config.val_size} + {config.confirm_size}"
    if left < classes:
        raise DataError(
            f"{held}, which leaves {left} of {images} training images; at least one of each of "
            f"{classes} classes must remain. Make them smaller."
        )
    size = left if config.train_size is None else config.train_size
    if size > left:
        raise DataError(
            f"data.train_size is {size}, but {held}, which leaves {left} of {images} training "
            "images. Make one of the three smaller."
        )
    for name, value in (("val_size", config.val_size), ("train_size", size)):
        if value < classes:
            raise DataError(
                f"data.{name} is {value}; it must be at least {classes}, one image of each class."
            )
    return size


def _stratified_order(labels: Int64Array, seed: int) -> Int64Array:
    generator = np.random.default_rng([seed, 0x5917])  # a stream of its own: seeds are often 0
    position = generator.permutation(len(labels))
    shuffled = labels[position]
    # The j-th image of a class with n images stands at (j + 1/2) / n of the way; the stable sort
    # leaves classes that tie in the shuffled order.
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(shuffled == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    order: Int64Array = position[np.argsort(place, kind="stable")].astype(np.int64)
    return order
