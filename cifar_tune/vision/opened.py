"""The images of a search, open: what trainings get of them, and what the journal keeps."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np

from cifar_tune.plan.task import Facts, Say
from cifar_tune.vision.config import VisionPlan
from cifar_tune.vision.data import Dataset, SearchData, search_data
from cifar_tune.vision.data.dataset import MappedImages, Pixels, in_memory
from cifar_tune.vision.data_config import DataConfig
from cifar_tune.vision.weights import Weights

MUCH = 1 / 4  # of the memory: what takes more is not copied there
WATCHED = 1000  # images that a final training validates on, which it also trains on


@dataclass(frozen=True)
class VisionData:
    """The images of a search, decoded in the cache, and the weights that networks start from."""

    dataset: Dataset
    config: DataConfig
    mapped: bool = False  # whether trainings share the cache's file instead of a copy in memory
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
        data = search_data(self.dataset, self.config, mapped=self.mapped)
        return replace(data, weights=self.weights)

    def part(self, name: Literal["search", "final"]) -> SearchData:
        """What a search may see, or all images but those of the test split.

        Of the latter nothing is left to validate on: the `val_*` figures of a final training are
        those of some of its training images, and nothing is decided by them.
        """
        if name == "search":
            return self.search
        from cifar_tune.vision.data.held_out import add_confirm_rows, open_confirm_split

        data, held = self.search, open_confirm_split(self.dataset, self.config)
        train, val = data.train_images, data.val_images
        if isinstance(train, MappedImages) and isinstance(val, MappedImages):
            both = replace(train, rows=np.concatenate([train.rows, val.rows]))
            images: Pixels = add_confirm_rows(self.dataset, self.config, both)
        else:
            images = np.concatenate([in_memory(train), in_memory(val), held.images])
        return replace(
            data,
            train_images=images,
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
            "image_size": dataset.image_size,
            "resize": dataset.resize,
            "notes": list(dataset.notes),
            **({"weights": {k: w.digest for k, w in self.weights.items()}} if self.weights else {}),
        }


def sharing_file(dataset: Dataset, plan: VisionPlan, say: Say) -> bool:
    """Whether the trainings of a search map the cache's file: where a copy would fill the memory.

    With an address there may be other machines, which have no such file: they get their copy.
    """
    size, memory = prod(dataset.shapes["train_images"]), memory_bytes()
    if size <= MUCH * memory:
        return False
    told = f"The images take {size / 1e9:.1f} GB of {memory / 1e9:.0f} GB of memory"
    if plan.resources.address is None:
        say(f"{told}: all trials read them from one file on the disk, {dataset.folder}.")
        return True
    say(f"{told}, and a copy goes to each machine of the cluster; a smaller data.image_size or"
        " data.train_size takes less.")  # fmt: skip
    return False


def memory_bytes(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory of this machine, or of the container."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
            limits.append(int((root / name).read_text()))
    return min(limits)
