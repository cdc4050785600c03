"""Weights that a training starts from, and how a network takes them: all but another head."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cifar_tune.errors import PlanError
from cifar_tune.vision.config import ModelConfig, is_weights_name
from cifar_tune.vision.models.stages import head_of

SHOWN = 4  # names in a refusal
SECOND_OUTPUTS = ("aux1.", "aux2.", "AuxLogits.")  # of GoogLeNet and Inception; not built here
# Names that torchvision gave DenseNet's layers before, and its files still have.
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d\.)")


@dataclass(frozen=True)
class Weights:
    """A network's weights as they were read.

    Attributes:
        state: arrays by their names; they pickle out of band, and may be read-only.
        origin: where they are from, in words.
        mean, std: what the images were normalised with, in 0..1; none: it is not known.
        digest: SHA-256 of names and values.
        maker: the network that they are of, where that is known.
    """

    state: Mapping[str, NDArray[Any]]
    origin: str
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    maker: ModelConfig | None = None

    @property
    def digest(self) -> str:
        digest = hashlib.sha256()
        for name, array in sorted(self.state.items()):
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def key_of(model: ModelConfig) -> str | None:
    """What the weights of a network are kept by; none: it starts from random ones."""
    if model.weights is None or not is_weights_name(model.weights):
        return model.weights
    return f"{model.weights} of {model.name}"


def arrays_of(state: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The tensors of a state dict as arrays; numpy knows no bfloat16."""
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    return {
        name: (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        for name, value in tensors.items()
    }


def start_from(
    network: nn.Module, weights: Weights, model: ModelConfig, *, assign: bool = False
) -> str:
    """Give a network these weights; a head of other classes stays as it is.

    Args:
        assign: put them in place of the network's own, as one without memory needs.

    Returns:
        What was done, in a sentence.

    Raises:
        PlanError: names or shapes differ elsewhere than in the head.
    """
    state = {_renamed(name, model): value for name, value in weights.state.items()}
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
    wanted = network.state_dict()
    tensors = {
        name: value
        for name, value in tensors.items()
        if name in wanted or not name.startswith(SECOND_OUTPUTS)
    }
    _fit_positions(network, tensors, wanted)
    head = head_of(network)
    inside = f"{head[0]}." if head else "?"
    of_head = {name for name in {*wanted, *tensors} if name.startswith(inside)}
    same = all(_shape(wanted, name) == _shape(tensors, name) for name in of_head)
    body = {name: value for name, value in tensors.items() if name not in of_head}
    _check_body(body, {k: v for k, v in wanted.items() if k not in of_head}, weights, model)
    network.load_state_dict(tensors if same else body, strict=False, assign=assign)
    normalised = (
        "images are normalised by the data's own mean and deviation, for those of the weights are"
        " not known"
        if weights.mean is None
        else "images are normalised as for these weights"
    )
    new = "" if same else "; its last layer is new, for the classes differ"
    return f"{model.name} starts from the weights {weights.origin}{new}; {normalised}."


def _renamed(name: str, model: ModelConfig) -> str:
    return OLD_DENSENET.sub(r"\1\2", name) if model.name.startswith("torchvision/den") else name


def _fit_positions(
    network: nn.Module, tensors: dict[str, Tensor], wanted: Mapping[str, Tensor]
) -> None:
    """Resize the position embedding of a torchvision ViT to the images', as torchvision says."""
    key = "encoder.pos_embedding"
    if _shape(tensors, key) == _shape(wanted, key) or key not in tensors or key not in wanted:
        return
    from torchvision.models import VisionTransformer
    from torchvision.models.vision_transformer import interpolate_embeddings

    if isinstance(network, VisionTransformer):
        given = {key: tensors[key]}
        tensors[key] = interpolate_embeddings(network.image_size, network.patch_size, given)[key]


def _shape(state: Mapping[str, Tensor], name: str) -> list[int] | None:
    return list(state[name].shape) if name in state else None


def _check_body(
    given: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    weights: Weights,
    model: ModelConfig,
) -> None:
    # Files of before 2018 have no count of BatchNorm's batches, and nothing depends on it here.
    missing = [k for k in wanted if k not in given and not k.endswith("num_batches_tracked")]
    faults = {
        "lacks": missing,
        "has besides": [k for k in given if k not in wanted],
        "has in other shapes": [
            f"{k} {_shape(given, k)} instead of {_shape(wanted, k)}"
            for k in given
            if k in wanted and _shape(given, k) != _shape(wanted, k)
        ],
    }
    told = [f"{what} {_some(names)}" for what, names in faults.items() if names]
    if not told:
        return
    made = weights.maker
    differing = [] if made is None else _differences(made, model)
    rather = f"set {', '.join(differing)}" if differing else "give weights of this network"
    raise PlanError(
        f"model.weights is {model.weights!r}, and model.name {model.name!r}: the file"
        f" {'; it '.join(told)}; {rather}"
    )


def _differences(made: ModelConfig, model: ModelConfig) -> list[str]:
    fields = ("name", "width", "l1", "l2")
    return [
        f"model.{field}={getattr(made, field)}"
        for field in fields
        if getattr(made, field) != getattr(model, field)
    ]


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
