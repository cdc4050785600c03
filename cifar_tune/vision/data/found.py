"""What was understood of a dataset, in sentences: classes, images, sizes, splits, what is small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cifar_tune.vision.data.dataset import Kind
from cifar_tune.vision.data.image_files import losses
from cifar_tune.vision.data.layout import listed
from cifar_tune.vision.data.sources import Seen
from cifar_tune.vision.data.splits import lacking_classes, settle, sizes_of
from cifar_tune.vision.data_config import SIDE, DataConfig
from cifar_tune.vision.names import spelt

KINDS: dict[Kind, str] = {
    "cifar10-python": "CIFAR-10",
    "cifar10-binary": "CIFAR-10",
    "cifar100-python": "CIFAR-100",
    "cifar100-binary": "CIFAR-100",
    "images": "images",
    "drawn": "The built-in drawn set",
}
PARTS = {"train": "training", "val": "validation", "confirm": "confirmation"}
CLASSES_SHOWN = 10
UNBALANCED = 5  # times the smallest class
ENOUGH_STEPS = 100  # a training of fewer has hardly left its random start


class Found(NamedTuple):
    """A dataset as far as it is known, before it is decoded or after."""

    classes: tuple[str, ...]  # in order; of a set that may yet be downloaded or drawn, CIFAR-10's
    config: DataConfig  # as it was given, with numbers for what is `auto`
    train_size: int  # images that a trial trains on
    sentences: tuple[str, ...]  # the first says what it is, the rest what a user should know


def found(where: str, seen: Seen, config: DataConfig) -> Found:
    """Puts together what is known of a dataset; `where` begins the first sentence.

    Raises:
        DataError: the splits do not fit the dataset.
    """
    classes, images, val_given = seen.classes, sum(seen.train), sum(seen.val)
    sizes = sizes_of(config, images, len(classes), val_given)
    config = settle(config, images, len(classes), val_given)
    side = seen.suggested if config.image_size == "auto" else config.side
    own = f", {_images(classes, seen.val, 'validation')}" if seen.val else ""
    val = f"{sizes.val:,} are for validation, {sizes.confirm:,} for confirmation,"
    if seen.val:
        val = f"{sizes.confirm:,} are for confirmation,"
    line = (
        f"{where}: {len(classes)} classes ({listed(classes, CLASSES_SHOWN)}) with"
        f" {_images(classes, seen.train, 'training')}{own}"
        f" and {_images(classes, seen.test, 'test')}; of the training images"
        f" {val} {sizes.train:,} are trained on."
    )
    return Found(
        classes=classes,
        config=config.model_copy(update={"image_size": side}),
        train_size=sizes.train,
        sentences=(
            line,
            *_size_notes(seen, config, side),
            *losses(seen.looked, side, config.resize),
            *seen.notes,
            *_small_classes(seen, config),
            *_unbalanced(seen, config),
        ),
    )


def _size_notes(seen: Seen, config: DataConfig, side: int) -> list[str]:
    """What sizes the images have, and what they are brought to."""
    brought = f"They are brought to {side} x {side} (data.image_size"
    if seen.sizes is None:
        return [] if side == SIDE else [f"{brought})."]
    (width, height), largest = seen.sizes
    to = "" if largest == (width, height) else f" to {largest[0]} x {largest[1]}"
    known = "" if seen.opened is None else f" ({seen.opened} looked at)"
    line = f"Images of {width} x {height}{to} pixels{known}."
    if (side, side) == largest == (width, height):
        return [line]
    why = ", auto: by the middle one of their shorter sides" * (config.image_size == "auto")
    return [f"{line} {brought}{why}; data.resize {config.resize})."]


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
        PARTS[part]: missing
        for part, missing in lacking_classes(seen.train, config, seen.val).items()
    }
    lacking["test"] = [label for label, count in enumerate(seen.test) if not count]
    sentences = []
    for part, missing in lacking.items():
        if missing:
            names = listed(seen.classes[label] for label in missing)
            end = ", which can't be learnt so" if part == "training" else ""
            sentences.append(f"Too small: no {part} image is of {names}{end}.")
    return sentences


def _unbalanced(seen: Seen, config: DataConfig) -> list[str]:
    """A sentence where one class has many times the images of another, and nothing is done."""
    low, high = min(seen.train), max(seen.train)
    if config.balance != "none" or high <= UNBALANCED * max(low, 1):
        return []
    return [
        f"Unbalanced: the largest class has {high / max(low, 1):.0f} times the training images of"
        " the smallest. data.balance=sampler or loss has rare classes count as much in training;"
        " search.metric=val_balanced_accuracy or val_macro_f1 judges by all classes alike."
    ]


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
