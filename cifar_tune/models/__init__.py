"""Builds the network that a plan names: one of ours, or the user's own."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cifar_tune.config import ModelConfig
from cifar_tune.errors import PlanError

if TYPE_CHECKING:
    from torch import nn

MODEL_NAMES = ("net", "resnet9", "resnet18")


def check_model_name(name: str) -> None:
    """Refuse a name that can't be built, without building it and without importing torch.

    For `package.module:build` this looks for the module's file; it runs `package/__init__.py`, as
    Python must to look inside a package, and nothing more. Whether the module has the attribute
    shows when it is built.

    Raises:
        PlanError: no such model, or no such module.
    """
    if name in MODEL_NAMES:
        return
    if ":" not in name:
        raise PlanError(_unknown(name))
    module_name, _ = _split(name)
    with _current_directory_importable():
        try:
            found = importlib.util.find_spec(module_name) is not None
        except Exception as error:  # a parent package may fail in any way
            raise PlanError(_not_importable(name, module_name, error)) from error
    if not found:
        raise PlanError(_not_importable(name, module_name, None))


def build_model(config: ModelConfig, num_classes: int) -> nn.Module:
    """The network of a plan, freshly initialised from torch's global random state.

    Args:
        config: the plan's section; each family reads the fields that concern it.
        num_classes: outputs of the last layer.

    Returns:
        A module from images, float [batch, 3, 32, 32], to logits, float [batch, num_classes].

    Raises:
        PlanError: an unknown name, or a model of the user's that can't be built or called.
    """
    if config.name == "net":
        from cifar_tune.models.lecture import Net

        return Net(config.l1, config.l2, num_classes)
    if config.name == "resnet9":
        from cifar_tune.models.resnet9 import ResNet9

        return ResNet9(config.width, num_classes)
    if config.name == "resnet18":  # the only importer of torchvision: it costs seconds
        from cifar_tune.models.resnet18 import cifar_resnet18

        return cifar_resnet18(num_classes)
    if ":" not in config.name:
        raise PlanError(_unknown(config.name))
    with _current_directory_importable():
        return _build_users_own(config, num_classes)


def _build_users_own(config: ModelConfig, num_classes: int) -> nn.Module:
    from torch import nn

    name = config.name
    build = _find_builder(name)
    try:
        inspect.signature(build).bind(config, num_classes)
    except TypeError as error:
        raise PlanError(
            f"model.name is {name!r}, which can't be called as build(config, num_classes): {error};"
            " give it these two arguments"
        ) from None
    except ValueError:  # no signature to be had, as of some C functions: just call it
        pass
    try:
        model = build(config, num_classes)
    except Exception as error:
        raise PlanError(f"model.name is {name!r}; building it raised {_told(error)}") from error
    if not isinstance(model, nn.Module):
        raise PlanError(
            f"model.name is {name!r}, which returned {type(model).__name__};"
            " it must return a torch.nn.Module"
        )
    _check_output(name, model, num_classes)
    return model


def _find_builder(name: str) -> Callable[[ModelConfig, int], Any]:
    module_name, attribute = _split(name)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's file may fail in any way
        raise PlanError(_not_importable(name, module_name, error)) from error
    if not hasattr(module, attribute):
        public = [word for word in vars(module) if not word.startswith("_")]
        raise PlanError(
            f"model.name is {name!r}; {module_name} has no {attribute}{_nearest(attribute, public)}"
        )
    build: Any = getattr(module, attribute)
    if not callable(build):
        raise PlanError(
            f"model.name is {name!r}, which is {type(build).__name__}; it must be a function or a"
            " class that is called as build(config, num_classes)"
        )
    return build  # type: ignore[no-any-return]


def _check_output(name: str, model: nn.Module, num_classes: int) -> None:
    """One small forward pass, so that a wrong last layer is told by name; fills lazy layers too."""
    import torch

    training = model.training
    model.eval()  # leaves running statistics and the random state as they are
    with torch.no_grad():
        try:
            logits = model(torch.zeros(2, 3, 32, 32))
        except Exception as error:
            raise PlanError(
                f"model.name is {name!r}; calling it on images [2, 3, 32, 32] raised {_told(error)}"
            ) from error
    model.train(training)
    shape = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if shape != [2, num_classes]:
        raise PlanError(
            f"model.name is {name!r}, which made {shape} of images [2, 3, 32, 32]; it must return"
            f" logits [batch, {num_classes}]"
        )


def _split(name: str) -> tuple[str, str]:
    module_name, _, attribute = name.partition(":")
    dotted = all(part.isidentifier() for part in module_name.split("."))
    if not dotted or not attribute.isidentifier():
        raise PlanError(
            f"model.name is {name!r}; your own model is named package.module:build, as in"
            " my_models.small:build"
        )
    return module_name, attribute


@contextmanager
def _current_directory_importable() -> Iterator[None]:
    """`python -m` puts the current directory on the path, an installed command does not."""
    here = os.getcwd()
    missing = here not in sys.path and "" not in sys.path
    if missing:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if missing and here in sys.path:
            sys.path.remove(here)


def _unknown(name: str) -> str:
    return (
        f"model.name is {name!r}; it must be one of {', '.join(MODEL_NAMES)}, or your own as"
        f" package.module:build{_nearest(name, MODEL_NAMES)}"
    )


def _nearest(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _not_importable(name: str, module_name: str, error: Exception | None) -> str:
    reason = f" ({_told(error)})" if error else ""
    return (
        f"model.name is {name!r}; there is no module {module_name} that can be imported{reason}:"
        f" start the command where it lies (now {os.getcwd()}), or install it"
    )


def _told(error: Exception) -> str:
    """The error in one line, with the place in the user's file that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    inner = [frame for frame in frames if "importlib" not in frame.filename]
    place = f" at {inner[-1].filename}:{inner[-1].lineno}" if inner[1:] else ""
    return f"{type(error).__name__}: {error}{place}"
