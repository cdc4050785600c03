"""A network seen as stages and a head: what can be frozen, and what is new when classes change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from cifar_tune.errors import PlanError

LAYERS = (_ConvNd, nn.Linear)  # what makes logits; Muon orthogonalises their weights
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
ENOUGH = 4  # stages; a network of fewer children is looked at more closely


class _Child(NamedTuple):
    name: str
    module: nn.Module


def head_of(network: nn.Module) -> tuple[str, nn.Module] | None:
    """The layer that makes the logits, and its name: the last convolution or linear layer."""
    layers = [(name, one) for name, one in network.named_modules() if isinstance(one, LAYERS)]
    return layers[-1] if layers else None


def stages_of(network: nn.Module) -> list[tuple[str, ...]]:
    """The names of the modules of each stage, from the images to the head, which is in none.

    Stages are the network's children that have parameters, in order, save the one that the head
    is in; a normalisation belongs to the stage before it. As long as there are fewer than 4, the
    largest gives way to its own children: so the `features` of an EfficientNet and the layers of
    a vision transformer are stages, as `layer1` of a ResNet is.
    """
    root = _Child("", network)
    while len(only := list(_children(root))) == 1:  # a wrapper
        root = only[0]
    last = head_of(network)
    stages = list(_children(root))
    stages = [one for one in stages if last is None or not _holds(one.name, last[0])]
    while len(merged := list(_merged(stages))) < ENOUGH:
        inner = [one for one in stages if len(list(_children(one))) > 0]
        if not inner:
            break
        largest = max(inner, key=lambda one: sum(p.numel() for p in one.module.parameters()))
        place = stages.index(largest)
        stages[place : place + 1] = _children(largest)
    return merged


def freeze(network: nn.Module, count: int, name: str = "the network") -> tuple[str, ...]:
    """Let the first `count` stages get no gradient; the names of their modules.

    Parameters beside the stages, such as a transformer's class token, belong to the first one.
    Keeping the modules in eval mode is the caller's.

    Raises:
        PlanError: the network has fewer stages.
    """
    if not count:
        return ()
    stages = stages_of(network)
    if count > len(stages):
        raise PlanError(
            f"model.freeze is {count}, and {name} has {len(stages)} stages before its head"
            f" ({', '.join('+'.join(stage) for stage in stages) or 'none'}); give at most"
            f" {len(stages)}"
        )
    frozen = tuple(one for stage in stages[:count] for one in stage)
    outer = {outer for one in frozen for outer in _outer_names(one)}
    for one in frozen:
        network.get_submodule(one).requires_grad_(False)
    for parameter in (p for o in outer for p in network.get_submodule(o).parameters(recurse=False)):
        parameter.requires_grad_(False)
    return frozen


def _outer_names(name: str) -> list[str]:
    """Of all modules that a module is in, the network itself included."""
    words = name.split(".")
    return [".".join(words[:depth]) for depth in range(len(words))]


def _children(of: _Child) -> Iterator[_Child]:
    for name, module in of.module.named_children():
        if any(True for _ in module.parameters()):
            yield _Child(f"{of.name}.{name}".lstrip("."), module)


def _merged(children: list[_Child]) -> Iterator[tuple[str, ...]]:
    """Each with the normalisations that follow it."""
    stage: tuple[str, ...] = ()
    for name, module in children:
        if stage and not isinstance(module, NORMS):
            yield stage
            stage = ()
        stage = (*stage, name)
    if stage:
        yield stage


def _holds(outer: str, inner: str) -> bool:
    """Whether a module's name is that of another, or of one inside it."""
    return f"{inner}.".startswith(f"{outer}.") or not outer
