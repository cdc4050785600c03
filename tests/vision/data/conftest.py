"""Fixtures of the data room's tests: a private cache, a tree of images, a config for small sets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from local_server import Server
from vision.data.small_sets import image_members, write_tree

from cifar_tune.vision.data.cache import CACHE_VARIABLE
from cifar_tune.vision.data.dataset import SearchData
from cifar_tune.vision.data_config import DataConfig


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


@pytest.fixture
def notes() -> list[str]:
    """Collects what on_note is told: pass `notes.append`."""
    return []


@pytest.fixture
def image_tree(tmp_path: Path) -> Path:
    """A folder with two classes, six training and two test images each."""
    return write_tree(tmp_path / "images", image_members())


@pytest.fixture
def make_config() -> Callable[..., DataConfig]:
    """Makes a config for small sets."""

    def make(**fields: object) -> DataConfig:
        small = {"val_size": 20, "confirm_size": 20, "batch_size": 16, "eval_batch_size": 50}
        return DataConfig.model_validate({**small, **fields})

    return make


@pytest.fixture
def noise_data() -> SearchData:
    """100 training and 30 validation images of noise, read-only as out of Ray's object store."""
    generator = np.random.default_rng(3)
    arrays = (
        generator.integers(0, 256, (100, 32, 32, 3), np.uint8),
        np.arange(100, dtype=np.int64) % 10,
        generator.integers(0, 256, (30, 32, 32, 3), np.uint8),
        np.arange(30, dtype=np.int64) % 10,
    )
    for array in arrays:
        array.setflags(write=False)
    classes = tuple("abcdefghij")
    return SearchData(*arrays, classes=classes, mean=(0.5, 0.5, 0.4), std=(0.25, 0.2, 0.3))


@pytest.fixture
def server() -> Iterator[Server]:
    """A running web server on this machine."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()
