"""ResNet-18 keeps the resolution of small images in its stem."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cifar_tune.vision.models.resnet18 import cifar_resnet18


def test_the_first_block_sees_32_by_32_maps() -> None:
    model = cifar_resnet18(num_classes=10)
    seen: list[torch.Size] = []

    def note(module: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append(inputs[0].shape)

    model.layer1.register_forward_pre_hook(note)  # type: ignore[operator]
    model(torch.zeros(1, 3, 32, 32))
    assert seen == [(1, 64, 32, 32)]
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_173_962
