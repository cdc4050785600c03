"""What was understood of a dataset, in sentences: classes, images, sizes, splits, what is small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cifar_tune.vision.config import DataConfig
from cifar_tune.vision.data.dataset import Kind, Sizes
from cifar_tune.vision.data.layout import listed
from cifar_tune.vision.data.splits import lacking_classes, settle, sizes_of
from cifar_tune.vision.names import spelt

KINDS: dict[Kind, str] = {
    "cifar10-python": "CIFAR-10",
    "cifar10-binary": "CIFAR-10",
    "images": "images",
    "drawn": "The built-in drawn set",
}
PARTS = {"train": "training", "val": "validation", "confirm": "confirmation"}
CLASSES_SHOWN = 10
ENOUGH_STEPS = 100  # a training of fewer has hardly left its random start


@dataclass(frozen=True, kw_only=True)
class Found:
    """A dataset as far as it is known, before it is decoded or after.

    Attributes:
        classes: their names in order; of a set that may yet be downloaded or drawn, CIFAR-10's.
        config: as it was given, with numbers for `val_size` and `confirm_size`.
        train_size: images that a trial trains on.
        sentences: what was understood in the first, then what a user should know.
    """

    classes: tuple[str, ...]
    config: DataConfig
    train_size: int
    sentences: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Outputs that a network needs."""
        return len(self.classes)


def found(
    where: str,
    classes: tuple[str, ...],
    train: Sequence[int],
    test: Sequence[int],
    config: DataConfig,
    notes: Sequence[str],
) -> Found:
    """Puts together what is known of a dataset.

    Args:
        where: the beginning of the sentence: what lies where.
        classes: their names.
        train, test: images of each class.
        config: how the training images are split.
        notes: more sentences.

    Raises:
        DataError: the splits do not fit the dataset.
    """
    sizes = sizes_of(config, sum(train), len(classes))
    line = (
        f"{where}: {len(classes)} classes ({listed(classes, CLASSES_SHOWN)}) with"
        f" {_images(classes, train, 'training')} and {_images(classes, test, 'test')}; of"
        f" the training images {sizes.val:,} are for validation, {sizes.confirm:,} for"
        f" confirmation, {sizes.train:,} are trained on."
    )
    small = _small_classes(classes, train, test, config)
    return Found(
        classes=classes,
        config=settle(config, sum(train), len(classes)),
        train_size=sizes.train,
        sentences=(line, *notes, *small),
    )


def size_notes(sizes: Sizes | None, opened: int | None = None) -> list[str]:
    """A sentence on the images' sizes, if they have any; `opened`: how many were looked at."""
    if sizes is None:
        return []
    (width, height), largest = sizes
    to = "" if largest == (width, height) else f" to {largest[0]} x {largest[1]}"
    known = "" if opened is None else f" ({opened} looked at)"
    return [f"Images of {width} x {height}{to} pixels{known}."]


def _images(classes: Sequence[str], counts: Sequence[int], split: str) -> str:
    """`80 training images (40 of each class)`, or with the smallest class and the largest."""
    low, high = min(counts), max(counts)
    each = f"{low:,} of each class"
    if low != high:
        smallest, largest = (spelt(classes[counts.index(count)]) for count in (low, high))
        each = f"{low:,} of {smallest} to {high:,} of {largest}"
    return f"{sum(counts):,} {split} images ({each})"


def _small_classes(
    classes: Sequence[str], train: Sequence[int], test: Sequence[int], config: DataConfig
) -> list[str]:
    """A sentence on each part that has no image of some class."""
    lacking = {PARTS[part]: missing for part, missing in lacking_classes(train, config).items()}
    lacking["test"] = [label for label, count in enumerate(test) if not count]
    sentences = []
    for part, missing in lacking.items():
        if missing:
            names = listed(classes[label] for label in missing)
            end = ", which can't be learnt so" if part == "training" else ""
            sentences.append(f"Too small: no {part} image is of {names}{end}.")
    return sentences


def few_steps(train_size: int, batch_size: int, epochs: int, *, drop_last: bool) -> list[str]:
    """A sentence if a training has too few steps to learn much; else none."""
    batches = train_size // batch_size if drop_last else -(-train_size // batch_size)
    steps = max(1, batches)
    if steps * epochs >= ENOUGH_STEPS:
        return []
    return [
        f"a training with data.batch_size {batch_size} has {steps * epochs} steps ({epochs} epochs"
        f" of {steps}, {train_size} images): too few to learn much; give smaller batches or more"
        " epochs (--max-epochs)"
    ]
