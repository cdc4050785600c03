"""Networks of torchvision, and of timm where it is installed, by their names there."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from cifar_tune.errors import PlanError, one_line
from cifar_tune.plan.own_code import nearest

if TYPE_CHECKING:
    from torch import nn

FAMILIES = ("torchvision", "timm")
REAL = ("timm/", "torchvision/regnet")  # read values of tensors while they are built
BUILT_WITH = {"self", "num_classes"}


def is_named(name: str) -> bool:
    """Whether a network's name is `torchvision/...` or `timm/...`."""
    return name.partition("/")[0] in FAMILIES and "/" in name


def check_named(name: str) -> None:
    """Refuse a name that the family has not; this imports it, which takes seconds.

    Raises:
        PlanError: no such network, one that is no classifier, or timm is not installed.
    """
    family, _, word = name.partition("/")
    if family == "timm":
        _check_timm(name, word)
        return
    from torchvision import models

    known = models.list_models(module=models)
    if word in known:
        return
    if word in models.list_models():
        raise PlanError(
            f"model.name is {name!r}, which is no network that classifies images at full precision;"
            " give one that does, as torchvision/resnet18"
        )
    hint = nearest(name, [f"torchvision/{one}" for one in known])
    raise PlanError(
        f"model.name is {name!r}; torchvision has no classifier of that name{hint}: see"
        " torchvision.models.list_models(module=torchvision.models)"
    )


def _check_timm(name: str, word: str) -> None:
    if find_spec("timm") is None:
        raise PlanError(
            f"model.name is {name!r}, and timm is not installed; install it with pip install"
            " 'cifar-tune[timm]', or give a network of torchvision, as torchvision/resnet18"
        )
    import timm

    if not timm.is_model(word):
        hint = nearest(name, [f"timm/{one}" for one in timm.list_models()])
        raise PlanError(
            f"model.name is {name!r}; timm has no network of that name{hint}: see"
            " timm.list_models()"
        )


def build_named(name: str, num_classes: int, side: int, arguments: Mapping[str, Any]) -> nn.Module:
    """A network of this name, freshly initialised, for images of `side` x `side` pixels.

    Args:
        arguments: keyword arguments of its constructor; they win over those that the side settles.

    Raises:
        PlanError: an unknown name, argument, or value of one.
    """
    check_named(name)
    given = {**_for_side(name, side), **arguments}
    if arguments:
        _check_arguments(name, arguments)
    try:
        return _make(name, num_classes, given)
    except Exception as error:  # whatever its constructor makes of a value
        reason = f"{type(error).__name__}: {one_line(error)}"
        if not arguments:
            raise wrong_size(name, side, reason) from error
        words = ", ".join(f"{argument}={value!r}" for argument, value in arguments.items())
        raise PlanError(
            f"model.name is {name!r}, which can't be built with {words} ({reason}); change"
            " model.args"
        ) from error


def wrong_size(name: str, side: int, reason: str) -> PlanError:
    """The refusal of a network that can't take the images."""
    return PlanError(
        f"model.name is {name!r}, which can't take images of {side} x {side} pixels ({reason});"
        " give another size (data.image_size), or a network that takes this one, as resnet9 or"
        " torchvision/resnet18"
    )


def _make(name: str, num_classes: int, given: Mapping[str, Any]) -> nn.Module:
    family, _, word = name.partition("/")
    network: nn.Module
    if family == "timm":
        import timm

        network = timm.create_model(word, pretrained=False, num_classes=num_classes, **given)
    else:
        from torchvision import models

        network = models.get_model(word, weights=None, num_classes=num_classes, **given)
    return network


def _for_side(name: str, side: int) -> dict[str, Any]:
    """Arguments of networks that are built for one size of images, or have a second output."""
    family, _, word = name.partition("/")
    if family == "timm":
        import timm

        config = timm.get_pretrained_cfg(word)
        return {"img_size": side} if getattr(config, "fixed_input_size", False) else {}
    if word.startswith("vit_"):
        return {"image_size": side}
    if word.startswith("maxvit"):
        return {"input_size": (side, side)}
    if word in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "init_weights": True}
    return {}


def _check_arguments(name: str, arguments: Mapping[str, Any]) -> None:
    """The functions of both families take any argument: what the class takes is what counts."""
    import torch

    device = "cpu" if name.startswith(REAL) else "meta"
    with torch.random.fork_rng(devices=[]), torch.device(device):
        kind = type(_make(name, 2, {}))
    parameters = inspect.signature(kind).parameters.values()
    takes_any = any(one.kind == one.VAR_KEYWORD for one in parameters)
    if takes_any and name.startswith("timm/"):  # it may hand them on; torchvision's drop them
        return
    known = [one.name for one in parameters if one.kind != one.VAR_KEYWORD]
    check_names(name, arguments, [one for one in known if one not in BUILT_WITH])


def check_names(name: str, arguments: Mapping[str, Any], known: Collection[str]) -> None:
    """A PlanError for the first argument of a network that it has not."""
    for argument, value in arguments.items():
        if argument not in known:
            raise PlanError(
                f"model.args.{argument} is {value!r}, and {name} has no such argument; it has"
                f" {', '.join(known) or 'none but config and num_classes'}"
                f"{nearest(argument, known)}"
            )
