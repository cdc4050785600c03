"""A small real dataset of PNG files, a private cache, and one Ray for the whole session."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from PIL import Image

CLASSES = 10
# How long an example takes is the machine's business.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or fills the user's own cache; processes that tests start inherit this one."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["CIFAR_TUNE_CACHE"] = str(folder)
    yield folder
    del os.environ["CIFAR_TUNE_CACHE"]


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 training and 100 test images of the drawn set as PNG files."""
    from cifar_tune.vision.data.drawn import draw

    folder = tmp_path_factory.mktemp("images")
    drawn = draw(400, 100)
    for split, images in (("train", drawn.train), ("test", drawn.test)):
        for number, (pixels, label) in enumerate(zip(images.images, images.labels, strict=True)):
            path = folder / split / drawn.classes[label] / f"{number:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="session")
def small_plan(image_folder: Path) -> list[str]:
    """`--set` values that make any plan train in a second an epoch on `image_folder`."""
    return [
        f"data.path={image_folder}",
        "data.val_size=100",
        "data.confirm_size=100",
        "data.batch_size=32",
        "model.width=2",
        "search.space.data.batch_size={choice: [16, 32]}",
        "finals.seeds=0",
        "resources.max_concurrent=1",  # a process less that imports torch
    ]


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Puts a module into the current directory, which is not on the path; gives its name."""

    def write(text: str) -> str:
        name = f"own_{tmp_path.name.replace('-', '_')}"
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
        return name

    return write


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """Ray with two CPUs, started once; searches in tests use it because it runs already."""
    from dataclasses import replace

    import ray.cloudpickle
    from search import objectives

    from cifar_tune.plan.config import Plan
    from cifar_tune.plan.machine import read_machine
    from cifar_tune.search.ray_instance import ray_for

    # Workers can't import modules of the tests by name.
    ray.cloudpickle.register_pickle_by_value(objectives)
    with ray_for(Plan(), replace(read_machine(), cpus=2, gpus=0)):
        yield
