"""A few random images that `fit` can train on, and a config that does it in a moment."""

from __future__ import annotations

from typing import Any

import numpy as np

from cifar_tune.vision.config import ModelConfig, VisionRun, VisionTrain
from cifar_tune.vision.data import SearchData
from cifar_tune.vision.data_config import DataConfig

CLASSES = tuple(f"class {index}" for index in range(10))


def toy_data(train: int = 64, val: int = 32, std: float = 0.25, side: int = 32) -> SearchData:
    """Noise, whose first rows say the class: enough to make a loss fall."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, train + val, dtype=np.int64)
    images = random.integers(0, 256, (train + val, side, side, 3), dtype=np.uint8)
    images[:, : side // 2] = (labels * 25)[:, None, None, None]
    return SearchData(
        train_images=images[:train],
        train_labels=labels[:train],
        val_images=images[train:],
        val_labels=labels[train:],
        classes=CLASSES,
        mean=(0.5, 0.5, 0.5),
        std=(std, std, std),
    )


def toy_run(max_epochs: int = 3, seed: int = 0, **values: Any) -> VisionRun:
    """ResNet-9 of width 4 on batches of 16, one thread; `values` as `optim__lr=0.1`."""
    run = VisionRun(
        data=DataConfig(batch_size=16, eval_batch_size=16),
        model=ModelConfig(width=4),
        train=VisionTrain(max_epochs=max_epochs, precision="32", channels_last=False, threads=1),
    )
    return run.with_values({name.replace("__", "."): x for name, x in values.items()}, seed)
