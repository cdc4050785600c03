"""Opens the images that no search may see; only the finals import this module."""

from __future__ import annotations

import numpy as np

from cifar_tune.vision.data.dataset import Dataset, Images, MappedImages
from cifar_tune.vision.data.splits import split_indices
from cifar_tune.vision.data.stored import open_images
from cifar_tune.vision.data_config import DataConfig


def open_confirm_split(dataset: Dataset, config: DataConfig) -> Images:
    """Returns copies of the `confirm_size` images that the finals compare candidates on.

    Raises DataError where the sizes do not fit or the cache entry is damaged.
    """
    stored = open_images(dataset, "train")
    chosen = split_indices(stored.labels, len(dataset.classes), config, dataset.val_start).confirm
    return Images(stored.images[chosen], stored.labels[chosen])


def add_confirm_rows(dataset: Dataset, config: DataConfig, images: MappedImages) -> MappedImages:
    """These images, and after them the confirmation images of the same file."""
    labels = open_images(dataset, "train").labels
    chosen = split_indices(labels, len(dataset.classes), config, dataset.val_start).confirm
    return MappedImages(images.file, np.concatenate([images.rows, chosen]))


def open_test_split(dataset: Dataset) -> Images:
    """Returns the test images, [n, 32, 32, 3] uint8, read-only and mapped from the cache.

    Opening it once, and writing that down, is the caller's promise. Raises DataError where the
    cache entry is damaged.
    """
    return open_images(dataset, "test")
