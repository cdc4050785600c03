"""Weights that torchvision publishes: by their names, or as files of theirs that lie here."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import Request

from cifar_tune.errors import DataError, PlanError, one_line
from cifar_tune.plan.own_code import nearest
from cifar_tune.plan.task import Say
from cifar_tune.vision.config import ModelConfig
from cifar_tune.vision.data.fetch import open_in_time
from cifar_tune.vision.weights import Weights, arrays_of

TORCHVISION = "torchvision/"
PATIENCE_SECONDS = 30.0  # without a byte
Normalisation = tuple[tuple[float, float, float], tuple[float, float, float]]


def find_published(model: ModelConfig) -> Any:
    """The entry of torchvision that `model.weights` names.

    Raises:
        PlanError: the network is not torchvision's, or has no such weights.
    """
    if not model.name.startswith(TORCHVISION):
        raise PlanError(
            f"model.weights is {model.weights!r}, a name of torchvision's weights, and model.name"
            f" is {model.name!r}; give a file or a folder, or a network as torchvision/resnet18"
        )
    entries = _entries(model)
    names = list(entries.__members__)
    if model.weights not in names:
        raise PlanError(
            f"model.weights is {model.weights!r}, and torchvision has for {model.name}"
            f" {', '.join(names)}{nearest(str(model.weights), names)}"
        )
    return entries[model.weights]


def cached(entry: Any) -> Path:
    """Where torch keeps the file of an entry, once it is downloaded."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / _file_name(entry)


def named_weights(model: ModelConfig, say: Say) -> Weights:
    """Weights by torchvision's name, out of torch's cache or, once, from the network.

    Raises:
        PlanError: there are none of that name.
        DataError: they are not in the cache and can't be downloaded.
    """
    from torch.hub import download_url_to_file

    from cifar_tune.vision.portable import read_torch_file

    entry, path = find_published(model), cached(find_published(model))
    try:
        if not path.is_file():
            say(f"downloading the weights {model.weights} of {model.name} into {path.parent}")
            path.parent.mkdir(parents=True, exist_ok=True)
            digest = path.stem.rpartition("-")[2]  # torchvision names files by their beginning
            with _patience():
                open_in_time(Request(entry.url)).close()
                download_url_to_file(entry.url, str(path), digest, progress=False)
        state = read_torch_file(path)
    except Exception as error:  # of the network, the disk, or a damaged file
        raise DataError(
            f"model.weights is {model.weights!r}, and {entry.url} can't be had"
            f" ({type(error).__name__}: {one_line(error)}); download it elsewhere and give the"
            f" file: --set model.weights=PATH/{path.name}"
        ) from error
    mean, std = _normalisation(entry, model)
    return Weights(arrays_of(state), f"{model.weights} of torchvision", mean, std)


@contextmanager
def _patience() -> Iterator[None]:
    """Torch waits for ever for a server that does not answer."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def normalisation_of(path: Path, model: ModelConfig) -> Normalisation | None:
    """What the images of a file of weights are normalised with, if it is one of torchvision's, by
    its name, or of timm's network; else none."""
    family, _, word = model.name.partition("/")
    if family == "timm":
        import timm

        config = timm.get_pretrained_cfg(word)
        given = getattr(config, "mean", None), getattr(config, "std", None)
        return None if None in given else (tuple(given[0]), tuple(given[1]))  # type: ignore[arg-type]
    if family != "torchvision":
        return None
    entry = next((one for one in _entries(model) if _file_name(one) == path.name), None)
    return None if entry is None else _normalisation(entry, model)


def _entries(model: ModelConfig) -> Any:
    from torchvision import models

    return models.get_model_weights(model.name.removeprefix(TORCHVISION))


def _file_name(entry: Any) -> str:
    return Path(urlparse(entry.url).path).name


def _normalisation(entry: Any, model: ModelConfig) -> Normalisation:
    """Mean and deviation; GoogLeNet and Inception with such weights turn theirs into 0.5 inside,
    which a network that is built here does not."""
    if model.name in ("torchvision/googlenet", "torchvision/inception_v3"):
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    transforms = entry.transforms()
    return tuple(transforms.mean), tuple(transforms.std)
