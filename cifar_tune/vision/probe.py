"""Tries a plan's networks before the start: the images' size, small batches, freezing, weights."""

from __future__ import annotations

from collections.abc import Iterator
from os.path import isabs
from typing import TYPE_CHECKING

from cifar_tune.errors import PlanError, one_line
from cifar_tune.plan.points import possible_values
from cifar_tune.plan.section import absolute_path
from cifar_tune.vision.config import (
    ModelConfig,
    VisionPlan,
    batch_sizes,
    is_weights_name,
    possible_models,
)
from cifar_tune.vision.data_config import SIDE
from cifar_tune.vision.models import MODEL_NAMES, build_model, weightless
from cifar_tune.vision.models.named import is_named, wrong_size

if TYPE_CHECKING:
    from torch import nn


def try_networks(plan: VisionPlan, num_classes: int, side: int, train_size: int) -> None:
    """Build each network that can be drawn and is not surely right, and let it see two images.

    Ours and torchvision's are built without memory ("meta"), for their shapes alone.

    Args:
        side: height and width of the images.
        train_size: images that a trial trains on.

    Raises:
        PlanError: it can't be built, can't take such images or a batch of one, or is frozen beyond
            its stages.
    """
    from cifar_tune.vision.models.stages import freeze

    single = _batch_of_one(plan, train_size)
    for model in possible_models(plan):
        ours = model.name in MODEL_NAMES and side == SIDE and not model.args.model_extra
        if ours and not model.freeze and single is None:
            continue
        with weightless(model):
            network = build_model(model, num_classes, side)
            freeze(network, model.freeze, model.name)
            if model.name in MODEL_NAMES or is_named(model.name):
                _try(network, model, num_classes, side)
                if single is not None:
                    _try_one(network, model, side, single)


def plain_layout(plan: VisionPlan, num_classes: int, side: int) -> list[str]:
    """Why networks get images in the plain memory layout though the plan says channels_last, in a
    sentence; empty if they all take that."""
    import torch

    for model in possible_models(plan) if plan.train.channels_last is True else ():
        if ":" not in model.name:
            continue
        with weightless(model), torch.no_grad():
            layout = torch.channels_last
            network = build_model(model, num_classes, side).to(memory_format=layout).eval()
            try:
                network(torch.zeros(2, 3, side, side).contiguous(memory_format=layout))
            except Exception as error:
                return [
                    f"{model.name} can't take images in channels_last, so train.channels_last is"
                    f" off ({type(error).__name__}: {one_line(error):.120})"
                ]
    return []


def starts_from_weights(plan: VisionPlan) -> bool:
    """Whether a network of the plan may start from weights."""
    return any(weights is not None for weights in possible_values(plan, "model.weights"))


def check_searched_weights(plan: VisionPlan) -> None:
    """A trial may have another working directory than the command."""
    for weights in possible_values(plan, "model.weights"):
        if isinstance(weights, str) and not (is_weights_name(weights) or isabs(weights)):
            raise PlanError(
                f"search.space.model.weights has {weights!r}; a file that is searched is given by"
                f" its whole path: {absolute_path(weights)}"
            )


def starting_weights(plan: VisionPlan, num_classes: int, side: int) -> list[str]:
    """What networks start from, in sentences."""
    if starts_from_weights(plan):
        from cifar_tune.vision.starting import try_weights

        return try_weights(plan, num_classes, side)
    if any(possible_values(plan, "model.freeze")):
        return ["model.freeze keeps stages as they are, and without model.weights they are random."]
    return []


def _try(network: nn.Module, model: ModelConfig, num_classes: int, side: int) -> None:
    import torch

    try:
        logits = network(torch.zeros(2, 3, side, side))
    except Exception as error:  # of torch, or of the network's own checks
        raise wrong_size(model.name, side, f"{type(error).__name__}: {one_line(error)}") from error
    shape = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if shape != [2, num_classes]:
        raise PlanError(
            f"model.name is {model.name!r}, which made {shape} of images [2, 3, {side}, {side}]; a"
            f" classifier makes logits [batch, {num_classes}]: give another network"
        )


def _try_one(network: nn.Module, model: ModelConfig, side: int, batch_size: int) -> None:
    import torch

    try:
        network(torch.zeros(1, 3, side, side))
    except Exception as error:
        raise PlanError(
            f"data.batch_size can be {batch_size}, which leaves a worker a batch of 1 image, and"
            f" {model.name} can't be trained on that ({one_line(error)}); give another batch size,"
            " fewer workers, or data.drop_last=true"
        ) from error


def _batch_of_one(plan: VisionPlan, train_size: int) -> int | None:
    """A batch size by which a worker gets a single image of some batch; none: there is none."""
    for size in batch_sizes(plan):
        for images in _batches(size, train_size, drop_last=plan.data.drop_last):
            if images // plan.workers == 1:
                return size
    return None


def _batches(size: int, train_size: int, *, drop_last: bool) -> Iterator[int]:
    """How many images a batch of an epoch has: a full one, and the last."""
    full, rest = divmod(train_size, size)
    if full:
        yield size
    if rest and not (drop_last and full):
        yield rest
