"""What was understood of a dataset, in sentences: classes, images, sizes, splits, what is small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cifar_tune.vision.config import DataConfig
from cifar_tune.vision.data.dataset import Kind
from cifar_tune.vision.data.layout import listed
from cifar_tune.vision.data.sources import Seen
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


class Found(NamedTuple):
    """A dataset as far as it is known, before it is decoded or after."""

    classes: tuple[str, ...]  # in order; of a set that may yet be downloaded or drawn, CIFAR-10's
    config: DataConfig  # as it was given, with numbers for `val_size` and `confirm_size`
    train_size: int  # images that a trial trains on
    sentences: tuple[str, ...]  # the first says what it is, the rest what a user should know


def found(where: str, seen: Seen, config: DataConfig) -> Found:
    """Puts together what is known of a dataset; `where` begins the first sentence.

    Raises:
        DataError: the splits do not fit the dataset.
    """
    classes = seen.classes
    sizes = sizes_of(config, sum(seen.train), len(classes))
    line = (
        f"{where}: {len(classes)} classes ({listed(classes, CLASSES_SHOWN)}) with"
        f" {_images(classes, seen.train, 'training')} and {_images(classes, seen.test, 'test')}; of"
        f" the training images {sizes.val:,} are for validation, {sizes.confirm:,} for"
        f" confirmation, {sizes.train:,} are trained on."
    )
    return Found(
        classes=classes,
        config=settle(config, sum(seen.train), len(classes)),
        train_size=sizes.train,
        sentences=(line, *_size_notes(seen), *seen.notes, *_small_classes(seen, config)),
    )


def _size_notes(seen: Seen) -> list[str]:
    if seen.sizes is None:
        return []
    (width, height), largest = seen.sizes
    to = "" if largest == (width, height) else f" to {largest[0]} x {largest[1]}"
    known = "" if seen.opened is None else f" ({seen.opened} looked at)"
    return [f"Images of {width} x {height}{to} pixels{known}."]


def _images(classes: Sequence[str], counts: Sequence[int], split: str) -> str:
    """`80 training images (40 of each class)`, or with the smallest class and the largest."""
    low, high = min(counts), max(counts)
    each = f"{low:,} of each class"
    if low != high:
        smallest, largest = (spelt(classes[counts.index(count)]) for count in (low, high))
        each = f"{low:,} of {smallest} to {high:,} of {largest}"
    return f"{sum(counts):,} {split} images ({each})"


def _small_classes(seen: Seen, config: DataConfig) -> list[str]:
    """A sentence on each part that has no image of some class."""
    lacking = {
        PARTS[part]: missing for part, missing in lacking_classes(seen.train, config).items()
    }
    lacking["test"] = [label for label, count in enumerate(seen.test) if not count]
    sentences = []
    for part, missing in lacking.items():
        if missing:
            names = listed(seen.classes[label] for label in missing)
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
