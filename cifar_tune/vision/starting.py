"""Finds and reads the weights that a plan's networks start from: once, by the driver."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cifar_tune.errors import DataError, PlanError, ResultsError, one_line
from cifar_tune.plan.points import possible_values
from cifar_tune.plan.task import Say
from cifar_tune.vision.config import ModelConfig, VisionPlan, is_weights_name, possible_models
from cifar_tune.vision.models import build_model, weightless
from cifar_tune.vision.portable import read_model, read_torch_file
from cifar_tune.vision.predict import find_model
from cifar_tune.vision.published import cached, find_published, named_weights, normalisation_of
from cifar_tune.vision.weights import Weights, arrays_of, key_of, start_from

WRAPPERS = ("state_dict", "model_state_dict", "model")  # around it, in files of others
PREFIXES = ("module.", "_orig_mod.", "model.")  # of each name in it


def starting_models(plan: VisionPlan) -> Iterator[ModelConfig]:
    """Each network that can be drawn with weights to start from, and each of these weights."""
    for model in possible_models(plan):
        for weights in possible_values(plan, "model.weights", {"model.name": model.name}):
            if weights is not None:
                values = {**model.model_dump(), "weights": weights}
                yield ModelConfig.model_validate(values)


def read_all(plan: VisionPlan, say: Say) -> dict[str, Weights]:
    """The weights of all networks that can be drawn; those with a name are downloaded once.

    Raises:
        PlanError, DataError: they are not there, or can't be read.
    """
    found: dict[str, Weights] = {}
    for model in starting_models(plan):
        key = key_of(model)
        if key is not None and key not in found:
            found[key] = read(model, say)
    return found


def read(model: ModelConfig, say: Say) -> Weights:
    """The weights that a network's section names; nothing in a file is run as code."""
    assert model.weights is not None
    if is_weights_name(model.weights):
        return named_weights(model, say)
    path = Path(model.weights)
    if path.is_dir() or path.suffix == ".ckpt":
        return _read_ours(path)
    if not path.is_file():
        raise DataError(
            f"model.weights is {model.weights!r}, and there is no such file; give a file of weights"
            " (.pt, .pth, .safetensors), a results folder or its best/, or torchvision's name of"
            " weights, as DEFAULT"
        )
    mean, std = normalisation_of(path, model) or (None, None)
    return Weights(arrays_of(_read_file(path)), str(path), mean, std)


def _read_ours(path: Path) -> Weights:
    try:
        card, state, _ = read_model(find_model(path))
    except ResultsError as error:
        raise DataError(f"model.weights is {str(path)!r}: {error}") from error
    if card.members > 1:
        raise PlanError(
            f"model.weights is {str(path)!r}, the mean of {card.members} networks; give one of"
            " them, as finals/seed-1"
        )
    return Weights(arrays_of(state), str(path), card.mean, card.std, card.model)


def _read_file(path: Path) -> Mapping[str, Any]:
    """A state dict, also one inside a checkpoint of somebody else's."""
    try:
        if path.suffix == ".safetensors":
            import safetensors.torch

            return dict(safetensors.torch.load_file(path))
        content = read_torch_file(path)
        for word in WRAPPERS:
            if isinstance(content, Mapping) and isinstance(content.get(word), Mapping):
                content = content[word]
        if not isinstance(content, Mapping) or not any(
            isinstance(x, Tensor) for x in content.values()
        ):
            raise ValueError("it holds no state dict")
    except Exception as error:  # a damaged file makes torch raise half a dozen kinds of error
        raise DataError(
            f"model.weights is {str(path)!r}, which can't be read as weights"
            f" ({type(error).__name__}: {one_line(error)[:200]}); save a state dict, as"
            " torch.save(network.state_dict(), FILE)"
        ) from error
    for prefix in PREFIXES:
        if all(str(name).startswith(prefix) for name in content):
            content = {name.removeprefix(prefix): value for name, value in content.items()}
    return dict(content)


def try_weights(plan: VisionPlan, num_classes: int, side: int) -> list[str]:
    """Whether each network takes its weights, as far as they are here; in sentences.

    Raises:
        PlanError, DataError: as `read_all`; or names or shapes differ.
    """
    sentences = []
    for model in starting_models(plan):
        if is_weights_name(str(model.weights)):
            entry = find_published(model)
            if not cached(entry).is_file():
                sentences.append(f"The weights {model.weights} are downloaded from {entry.url}.")
                continue
        weights = read(model, sentences.append)
        with weightless(model):
            network = build_model(model, num_classes, side)
            sentences.append(start_from(network, weights, model, assign=True))
    return list(dict.fromkeys(sentences))


def check_recorded(weights: Mapping[str, Weights], recorded: Mapping[str, Any]) -> None:
    """A DataError unless these are the weights that a search began with, wherever they lie now."""
    before, now = recorded.get("weights", {}), {k: one.digest for k, one in weights.items()}
    if sorted(before.values()) != sorted(now.values()):
        raise DataError(
            f"model.weights: the search began with {_told(before)}, and there is now"
            f" {_told(now)}; give those weights (--set model.weights=FILE), or start a new search"
        )


def _told(digests: Mapping[str, str]) -> str:
    return ", ".join(f"{k} ({digest[:12]})" for k, digest in digests.items()) or "none"
