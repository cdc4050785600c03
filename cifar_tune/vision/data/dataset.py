"""What a decoded dataset, its description and a search's share of it look like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from cifar_tune.errors import DataError
from cifar_tune.vision.data_config import SIDE, Resize

Kind = Literal[
    "cifar10-python", "cifar10-binary", "cifar100-python", "cifar100-binary", "images", "drawn"
]
Uint8Array = NDArray[np.uint8]
Int64Array = NDArray[np.int64]
Statistics = tuple[float, float, float]  # a figure for red, green and blue, 0 to 1
Sizes = tuple[tuple[int, int], tuple[int, int]]  # width and height, of the smallest and the largest


@dataclass(frozen=True)
class MappedImages:
    """Some images of a .npy file, which all processes of a machine share by mapping it.

    What is pickled is the file's path and the numbers `rows` [n] int64 of the images in it.
    """

    file: Path
    rows: Int64Array

    @cached_property
    def stored(self) -> Uint8Array:
        """All images of the file, read-only: those of `rows` are meant."""
        try:
            stored: Uint8Array = np.load(self.file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(
                f"the decoded dataset {self.file} can't be opened ({error}); start again, and it is"
                " decoded anew."
            ) from error
        return stored

    @property
    def shape(self) -> tuple[int, ...]:
        """As that of an array of the images."""
        return (len(self.rows), *self.stored.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> MappedImages:
        return MappedImages(self.file, self.rows[part])

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedImages, (self.file, self.rows)


Pixels: TypeAlias = Uint8Array | MappedImages


def in_memory(images: Pixels) -> Uint8Array:
    """The images as an array, [n, side, side, 3]; of mapped ones a copy."""
    return images.stored[images.rows] if isinstance(images, MappedImages) else images


@dataclass(frozen=True)
class Images:
    """Images with their classes.

    Shapes: `images` [n, side, side, 3] uint8, red, green and blue last; `labels` [n] int64, an
    index into the dataset's `classes`.
    """

    images: Uint8Array
    labels: Int64Array

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Decoded:
    """A whole dataset as a source gave it, before the cache has it.

    `sizes` are those that image files had before they were brought to one size; `suggested` is what
    those that were looked at suggest for `data.image_size`. Training images from `val_start` on are
    the source's own validation images; none: it has none. `cut` is the seed by which a test part
    was cut; none: the source has its own. `in_place`: the images' arrays lie in the folder of the
    entry already.
    """

    kind: Kind
    classes: tuple[str, ...]
    train: Images
    test: Images
    notes: tuple[str, ...] = ()
    sizes: Sizes | None = None
    val_start: int | None = None
    cut: int | None = None
    suggested: int = SIDE
    in_place: bool = False


class Dataset(BaseModel):
    """A decoded dataset in the cache: all but `folder`, where its arrays lie, is its meta.json.

    `mean` and `std` are those of the training images, one for red, green and blue, from 0 to 1.
    `listing` is the source's names and sizes as a digest. `fingerprint` is a SHA-256 over the
    arrays and the class names: equal content, equal fingerprint, wherever it came from. `notes` are
    the sentences that a reader of the results should know (resized, fell back to the drawn set,
    rebuilt). `decoder` and what follows came later than the rest; `image_size` and `resize` are as
    in the plan, the others as in `Decoded`.
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
    image_size: int = SIDE
    resize: Resize = "squash"
    val_start: int | None = None
    cut: int | None = None
    suggested: int | None = None
    folder: Path = Field(default=Path(), exclude=True)

    @property
    def train_size(self) -> int:
        """Images in the training set, without the source's own validation images."""
        there = self.shapes["train_labels"][0]
        return there if self.val_start is None else self.val_start

    @property
    def val_given(self) -> int:
        """The source's own validation images."""
        return self.shapes["train_labels"][0] - self.train_size

    @property
    def test_size(self) -> int:
        """Images in the test set."""
        return self.shapes["test_labels"][0]


@dataclass(frozen=True)
class SearchData:
    """All that a search may see of a dataset: the images trained on and those it is judged by.

    Plain arrays, copied out of the cache, so that no road leads from here to the test split or
    to the confirmation images; they pickle out of band and may be read-only (Ray's object store).
    Where that would take much of the memory, they are mapped from the cache's training file: the
    numbers of the confirmation images are not among its rows, and the test split is another file.

    Shapes: images [n, side, side, 3] uint8, labels [n] int64. Channels lie last because a row of an
    image is then one run of bytes, which makes the random crop cheap (augmentation.py).
    """

    train_images: Pixels
    train_labels: Int64Array
    val_images: Pixels
    val_labels: Int64Array
    classes: tuple[str, ...]
    mean: Statistics
    std: Statistics
    weights: Mapping[str, Any] = field(default_factory=dict)
    """What networks start from, by `weights.key_of`."""

    @property
    def side(self) -> int:
        """Height and width of the images, in pixels."""
        return int(self.train_images.shape[1])
