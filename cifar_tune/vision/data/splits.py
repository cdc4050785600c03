"""Cuts the training set into confirmation, validation and training images, by a seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cifar_tune.errors import DataError
from cifar_tune.vision.data.dataset import Dataset, Int64Array, Pixels, SearchData
from cifar_tune.vision.data.stored import mapped_rows, open_images
from cifar_tune.vision.data_config import DataConfig

# What `auto` holds out, for validation and for confirmation each: CIFAR-10's 5,000 are a tenth.
LARGE, LARGE_PART = 5000, 0.1
SMALL, SMALL_PART = 500, 0.2  # of a set so small that a tenth would tell little
PARTS = 0x5917  # a stream of random numbers of its own: seeds are often 0


class Sizes(NamedTuple):
    """Images of each part of a training set."""

    train: int
    val: int
    confirm: int


class SplitIndices(NamedTuple):
    """Positions in the dataset's training set, [n] int64 each and without a common member."""

    train: Int64Array
    val: Int64Array
    confirm: Int64Array


def settle(config: DataConfig, images: int, classes: int, val_given: int = 0) -> DataConfig:
    """The config with numbers for `val_size` and `confirm_size`, for a set of so many `images`.

    Raises DataError as `sizes_of`.
    """
    sizes = sizes_of(config, images, classes, val_given)
    return config.model_copy(update={"val_size": sizes.val, "confirm_size": sizes.confirm})


def part_by_size(images: int) -> int:
    """What `auto` holds out of so many images: a tenth, or a fifth of a small set."""
    return round(min(LARGE, max(images * LARGE_PART, min(images * SMALL_PART, SMALL))))


def sizes_of(config: DataConfig, images: int, classes: int, val_given: int = 0) -> Sizes:
    """The parts of a training set of so many `images` and `classes`, beside which the source may
    have validation images of its own.

    Raises DataError where they do not fit the set or each other.
    """
    auto = part_by_size(images)
    confirm = _number(config.confirm_size, images, auto if auto >= classes else 0)
    if val_given:
        val = _number(config.val_size, val_given, val_given)
        if val > val_given:
            raise DataError(
                f"data.val_size is {val}, and the dataset's own validation part has {val_given}"
                " images; give fewer, or auto: all of them."
            )
        left, held = images - confirm, f"data.confirm_size is {confirm}"
    else:
        val = _number(config.val_size, images, max(auto, classes))
        left = images - val - confirm
        held = f"data.val_size + data.confirm_size is {val} + {confirm}"
    if left < classes:
        raise DataError(
            f"{held}, which leaves {left} of {images} training images; at least one of each of "
            f"{classes} classes must remain. Make them smaller (auto goes by the set), or add "
            "images."
        )
    train = left if config.train_size is None else config.train_size
    if train > left:
        raise DataError(
            f"data.train_size is {train}, but {held}, which leaves {left} of {images} training "
            "images. Make one of the three smaller, or data.train_size null: all that are left."
        )
    for name, value in (("val_size", val), ("train_size", train)):
        if value < classes:
            raise DataError(
                f"data.{name} is {value}; it must be at least {classes}, one image of each class."
            )
    return Sizes(train, val, confirm)


def _number(size: str | float, images: int, auto: int) -> int:
    if isinstance(size, str):
        return auto
    return size if isinstance(size, int) else max(1, round(size * images))


def lacking_classes(
    counts: Sequence[int], config: DataConfig, val_counts: Sequence[int] = ()
) -> dict[str, list[int]]:
    """The classes of which a part has no image, by the part's name; parts that lack none are left
    out. `counts` are the training images of each class, `val_counts` those for validation that the
    source itself has."""
    labels, val_start = np.repeat(np.arange(len(counts)), counts), None
    if any(val_counts):
        val_start = len(labels)
        labels = np.concatenate([labels, np.repeat(np.arange(len(counts)), val_counts)])
    split = split_indices(labels, len(counts), config, val_start)
    lacking = {}
    for name, part in split._asdict().items():
        missing = np.flatnonzero(np.bincount(labels[part], minlength=len(counts)) == 0)
        if len(part) and len(missing):
            lacking[name] = missing.tolist()
    return lacking


def search_data(dataset: Dataset, config: DataConfig, *, mapped: bool = False) -> SearchData:
    """Copies out what a search may see: `train_size` training and `val_size` validation images.

    `mapped` images stay in the cache's file, which is then shared by what is on this machine.

    Raises DataError where the sizes do not fit the dataset or each other.
    """
    stored = open_images(dataset, "train")
    split = split_indices(stored.labels, len(dataset.classes), config, dataset.val_start)

    def taken(rows: Int64Array) -> Pixels:
        return mapped_rows(dataset, rows) if mapped else stored.images[rows]

    return SearchData(
        train_images=taken(split.train),
        train_labels=stored.labels[split.train],
        val_images=taken(split.val),
        val_labels=stored.labels[split.val],
        classes=dataset.classes,
        mean=dataset.mean,
        std=dataset.std,
    )


def split_indices(
    labels: Int64Array, classes: int, config: DataConfig, val_start: int | None = None
) -> SplitIndices:
    """Splits the positions 0 to n-1 of a training set with these labels, [n] int64.

    One seeded order of all images is made in which every prefix has the classes in the set's
    proportions (to within one image a class); the parts are cut from its start one after another.
    So they are stratified, a smaller `train_size` is part of a larger one, and neither it nor
    `val_size` moves a confirmation image. From `val_start` on they are the source's own validation
    images, of which `val_size` are taken, in such an order too.
    """
    if val_start is not None:
        sizes = sizes_of(config, val_start, classes, len(labels) - val_start)
        order = stratified_order(labels[:val_start], config.split_seed)
        given = val_start + stratified_order(labels[val_start:], config.split_seed)
        return SplitIndices(
            train=order[sizes.confirm : sizes.confirm + sizes.train],
            val=given[: sizes.val],
            confirm=order[: sizes.confirm],
        )
    sizes = sizes_of(config, len(labels), classes)
    order = stratified_order(labels, config.split_seed)
    val_start, train_start = sizes.confirm, sizes.confirm + sizes.val
    return SplitIndices(
        train=order[train_start : train_start + sizes.train],
        val=order[val_start:train_start],
        confirm=order[:val_start],
    )


def stratified_order(labels: Int64Array, seed: int, stream: int = PARTS) -> Int64Array:
    """All positions, seeded, so that every prefix has the classes in the set's proportions."""
    generator = np.random.default_rng([seed, stream])
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
