"""The images of a search, open: what trainings get of them, and what the journal keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from cifar_tune.plan.task import Facts
from cifar_tune.vision.config import DataConfig, VisionPlan
from cifar_tune.vision.data import Dataset, SearchData, search_data
from cifar_tune.vision.weights import Weights

WATCHED = 1000  # images that a final training validates on, which it also trains on


@dataclass(frozen=True)
class VisionData:
    """The images of a search, decoded in the cache, and the weights that networks start from."""

    dataset: Dataset
    config: DataConfig
    weights: Mapping[str, Weights] = field(default_factory=dict)

    def settled(self, plan: VisionPlan) -> VisionPlan:
        """The plan with numbers for the parts of these images."""
        return plan.model_copy(update={"data": self.config})

    @property
    def fingerprint(self) -> str:
        """Equal for equal images, wherever they came from."""
        return self.dataset.fingerprint

    @cached_property
    def search(self) -> SearchData:
        """What a search may see."""
        return replace(search_data(self.dataset, self.config), weights=self.weights)

    def part(self, name: Literal["search", "final"]) -> SearchData:
        """What a search may see, or all images but those of the test split.

        Of the latter nothing is left to validate on: the `val_*` figures of a final training are
        those of some of its training images, and nothing is decided by them.
        """
        if name == "search":
            return self.search
        from cifar_tune.vision.data.held_out import open_confirm_split

        data, held = self.search, open_confirm_split(self.dataset, self.config)
        return replace(
            data,
            train_images=np.concatenate([data.train_images, data.val_images, held.images]),
            train_labels=np.concatenate([data.train_labels, data.val_labels, held.labels]),
            val_images=data.val_images[:WATCHED],
            val_labels=data.val_labels[:WATCHED],
        )

    @property
    def facts(self) -> Facts:
        """What the journal keeps of the data."""
        dataset = self.dataset
        return {
            "kind": dataset.kind,
            "source": dataset.source,
            "fingerprint": dataset.fingerprint,
            "train": len(self.search.train_labels),
            "val": len(self.search.val_labels),
            "confirm": self.config.confirm_size,
            "test": dataset.test_size,
            "classes": list(dataset.classes),
            "notes": list(dataset.notes),
            **({"weights": {k: w.digest for k, w in self.weights.items()}} if self.weights else {}),
        }
