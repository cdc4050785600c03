"""Builds the network that a plan names: ours, torchvision's or timm's, or the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from cifar_tune.errors import PlanError
from cifar_tune.plan.own_code import OwnCode, current_directory_importable, nearest
from cifar_tune.vision.config import SIDE, ModelConfig
from cifar_tune.vision.models.named import REAL, build_named, check_named, check_names, is_named

if TYPE_CHECKING:
    from torch import nn

MODEL_NAMES = ("net", "resnet9", "resnet18", "speednet")


def check_model_name(name: str) -> None:
    """Refuse a name that can't be built, without building it.

    Torch is imported only for a network of torchvision or timm, whose names it takes to know. For
    `package.module:build` this looks for the module's file; it runs `package/__init__.py`, as
    Python must to look inside a package, and nothing more. Whether the module has the attribute
    shows when it is built.

    Raises:
        PlanError: no such model, or no such module.
    """
    if is_named(name):
        check_named(name)
    elif name not in MODEL_NAMES:
        _own(name).check_module()


def build_model(config: ModelConfig, num_classes: int, side: int = SIDE) -> nn.Module:
    """The network of a plan, freshly initialised from torch's global random state.

    Args:
        config: the plan's section; each family reads the fields that concern it.
        num_classes: outputs of the last layer.
        side: height and width of the images, for networks that are built for one size.

    Returns:
        A module from images, float [batch, 3, side, side], to logits, float [batch, num_classes].

    Raises:
        PlanError: an unknown name, or a model of the user's that can't be built or called.
    """
    arguments = dict(config.args.model_extra or {})
    if is_named(config.name):
        return build_named(config.name, num_classes, side, arguments)
    if arguments and config.name in MODEL_NAMES:
        raise PlanError(
            f"model.args has {', '.join(arguments)}, and {config.name} takes no arguments; leave it"
            " out, or name a network that does: torchvision/NAME, or your own as"
            " package.module:build"
        )
    if config.name == "net":
        from cifar_tune.vision.models.lecture import Net

        return Net(config.l1, config.l2, num_classes)
    if config.name == "resnet9":
        from cifar_tune.vision.models.resnet9 import ResNet9

        return ResNet9(config.width, num_classes)
    if config.name == "speednet":
        from cifar_tune.vision.models.speednet import SpeedNet

        return SpeedNet(config.width, num_classes)
    if config.name == "resnet18":  # torchvision costs seconds
        from cifar_tune.vision.models.resnet18 import cifar_resnet18

        return cifar_resnet18(num_classes)
    return _build_users_own(_own(config.name), config, num_classes, arguments, side)


@contextmanager
def weightless(config: ModelConfig) -> Iterator[None]:
    """Where a network is built only to be counted or filled, and no random number is used up.

    On "meta" it takes no memory either; the user's own may need real tensors.
    """
    import torch

    real = ":" in config.name or config.name.startswith(REAL)
    with torch.random.fork_rng(devices=[]), torch.device("cpu" if real else "meta"):
        yield


def guarded_calls(config: ModelConfig) -> AbstractContextManager[None]:
    """Where the network of a plan is called: the user's own may raise anything, or try to leave.

    Raises:
        PlanError: it did; with file and line.
    """
    return _own(config.name).guarded("calling it") if ":" in config.name else nullcontext()


def _own(name: str) -> OwnCode:
    own = OwnCode(
        kind="model",
        field="model.name",
        name=name,
        function="build",
        parameters=("config", "num_classes"),
    )
    if ":" not in name:
        raise PlanError(
            f"model.name is {name!r}; it must be one of {', '.join(MODEL_NAMES)},"
            " torchvision/NAME, timm/NAME, or your own as package.module:build"
            f"{own.meant() or nearest(name, MODEL_NAMES)}"
        )
    return own


def _build_users_own(
    own: OwnCode, config: ModelConfig, num_classes: int, arguments: dict[str, Any], side: int
) -> nn.Module:
    from torch import nn

    build = own.load()
    _check_arguments(own, build, arguments)
    # The path is for what it imports when it is called.
    with current_directory_importable(), own.guarded("building it"):
        model = build(config, num_classes, **arguments)
    if not isinstance(model, nn.Module):
        returned = type(model).__name__
        raise own.error(f", which returned {returned}; it must return a torch.nn.Module")
    _check_output(own, model, num_classes, side)
    return model


def _check_arguments(own: OwnCode, build: Any, arguments: dict[str, Any]) -> None:
    try:
        parameters = inspect.signature(build).parameters
    except ValueError:  # no signature to be had
        return
    if any(one.kind == one.VAR_KEYWORD for one in parameters.values()):
        return
    known = [name for name, one in parameters.items() if one.kind != one.VAR_POSITIONAL][2:]
    check_names(own.name, arguments, known)


def _check_output(own: OwnCode, model: nn.Module, num_classes: int, side: int) -> None:
    """One small forward pass, so that a wrong last layer is told by name; fills lazy layers too."""
    import torch

    training = model.training
    model.eval()  # leaves running statistics and the random state as they are
    images = f"images [2, 3, {side}, {side}]"
    with torch.no_grad(), own.guarded(f"calling it on {images}"):
        logits = model(torch.zeros(2, 3, side, side))
    model.train(training)
    shape = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if shape != [2, num_classes]:
        raise own.error(
            f", which made {shape} of {images}; it must return logits [batch, {num_classes}]"
        )
