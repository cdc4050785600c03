"""Puts the images of a tree in the order of the arrays; cuts a test part where there is none."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cifar_tune.vision.data.dataset import Int64Array
from cifar_tune.vision.data.layout import Place, Tree
from cifar_tune.vision.data.splits import part_by_size, stratified_order

CUT = 0x7E57  # the seeded order that a test part is cut from


class Ordered(NamedTuple):
    """The images of a dataset in order of class and file name, whatever came first.

    So a folder and an archive of the same files give equal arrays and equal splits.
    """

    classes: tuple[str, ...]
    train: tuple[Place, ...]
    val: tuple[Place, ...]  # that the source itself has for validation
    test: tuple[Place, ...]
    cut: bool  # whether the test part was cut from the training images

    def labels(self, places: tuple[Place, ...]) -> Int64Array:
        """The class of each, [n] int64."""
        index = {name: label for label, name in enumerate(self.classes)}
        return np.array([index[place.label] for place in places], np.int64)

    def counts(self, places: tuple[Place, ...]) -> tuple[int, ...]:
        """Images of each class."""
        return tuple(np.bincount(self.labels(places), minlength=len(self.classes)).tolist())


def put_in_order(tree: Tree, seed: int) -> Ordered:
    """Raises DataError as `Tree.classes`; `seed` is that of the part which may be cut."""
    classes, places = tree.classes(), sorted(tree.places)
    train, val, test = (
        tuple(place for place in places if place.split == split)
        for split in ("train", "val", "test")
    )
    ordered = Ordered(classes, train, val, test, cut=not test)
    if test:
        return ordered
    chosen = stratified_order(ordered.labels(train), seed, CUT)[: max(1, part_by_size(len(train)))]
    cut = set(chosen.tolist())
    return ordered._replace(
        train=tuple(place for row, place in enumerate(train) if row not in cut),
        test=tuple(train[row] for row in sorted(cut)),
    )
