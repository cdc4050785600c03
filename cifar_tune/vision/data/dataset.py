"""What a decoded dataset, its description and a search's share of it look like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

IMAGE_SIDE = 32  # pixels; every dataset is brought to this size
SPLITS = ("train", "test")  # as the official distribution and image folders name them

Kind = Literal["cifar10-python", "cifar10-binary", "images", "drawn"]
Uint8Array = NDArray[np.uint8]
Int64Array = NDArray[np.int64]
Statistics = tuple[float, float, float]  # a figure for red, green and blue, 0 to 1
Sizes = tuple[tuple[int, int], tuple[int, int]]  # width and height, of the smallest and the largest


@dataclass(frozen=True)
class Images:
    """Images with their classes.

    Shapes: `images` [n, 32, 32, 3] uint8, red, green and blue last; `labels` [n] int64, an index
    into the dataset's `classes`.
    """

    images: Uint8Array
    labels: Int64Array

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Decoded:
    """A whole dataset in memory, as a source gave it and before the cache has it.

    `sizes` are those that image files had before they were brought to 32 x 32 pixels.
    """

    kind: Kind
    classes: tuple[str, ...]
    train: Images
    test: Images
    notes: tuple[str, ...] = ()
    sizes: Sizes | None = None


class Dataset(BaseModel):
    """A decoded dataset in the cache: all but `folder`, where its arrays lie, is its meta.json.

    `mean` and `std` are those of the training images, one for red, green and blue, from 0 to 1.
    `listing` is the source's names and sizes as a digest. `fingerprint` is a SHA-256 over the
    arrays and the class names: equal content, equal fingerprint, wherever it came from. `notes` are
    the sentences that a reader of the results should know (resized, fell back to the drawn set,
    rebuilt). `decoder` and `sizes`, which is as in `Decoded`, came later than the rest.
    """

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
    folder: Path = Field(default=Path(), exclude=True)

    @property
    def train_size(self) -> int:
        """Images in the training set."""
        return self.shapes["train_labels"][0]

    @property
    def test_size(self) -> int:
        """Images in the test set."""
        return self.shapes["test_labels"][0]


@dataclass(frozen=True)
class SearchData:
    """All that a search may see of a dataset: the images trained on and those it is judged by.

    Plain arrays, copied out of the cache, so that no road leads from here to the test split or
    to the confirmation images; they pickle out of band and may be read-only (Ray's object store).

    Shapes: images [n, 32, 32, 3] uint8, labels [n] int64. Channels lie last because a row of an
    image is then one run of 96 bytes, which makes the random crop cheap (augmentation.py).
    """

    train_images: Uint8Array
    train_labels: Int64Array
    val_images: Uint8Array
    val_labels: Int64Array
    classes: tuple[str, ...]
    mean: Statistics
    std: Statistics
    weights: Mapping[str, Any] = field(default_factory=dict)
    """What networks start from, by `weights.key_of`."""
