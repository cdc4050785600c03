"""Several networks of one architecture as one, whose logits are the mean of theirs."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cifar_tune.files import write_atomically
from cifar_tune.vision.config import SIDE, ModelConfig
from cifar_tune.vision.models import build_model


def build_members(
    config: ModelConfig, num_classes: int, members: int, side: int = SIDE
) -> nn.Module:
    """One network as `build_model`, or that many as one. Raises PlanError as that."""
    if members == 1:
        return build_model(config, num_classes, side)
    return Ensemble(build_model(config, num_classes, side) for _ in range(members))


class Ensemble(nn.Module):
    """Networks whose logits are averaged."""

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([network(images) for network in self.networks]).mean(dim=0)


def combine(checkpoints: Sequence[Path], target: Path) -> None:
    """Write one checkpoint that is the mean of several, for prediction: training does not go on.

    Args:
        checkpoints: of trainings of one configuration.
        target: `Classifier.load_from_checkpoint` and `load_model` read it like any other.

    Raises:
        OSError: it can't be written.
    """
    whole: dict[str, Any] = {}
    state: dict[str, Any] = {}
    for number, path in enumerate(checkpoints):
        whole = torch.load(path, map_location="cpu", weights_only=True)
        for name, value in whole["state_dict"].items():
            state[name.replace("model.", f"model.networks.{number}.", 1)] = value
    parameters = {**whole["hyper_parameters"], "members": len(checkpoints)}
    whole |= {"state_dict": state, "hyper_parameters": parameters}
    whole |= {"optimizer_states": [], "lr_schedulers": []}
    content = io.BytesIO()
    torch.save(whole, content)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, content.getvalue())
