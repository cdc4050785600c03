"""ResNet-9 grows with its width and nothing else."""

from __future__ import annotations

import torch
from torch import nn

from cifar_tune.vision.models.resnet9 import LOGIT_SCALE, ResNet9


def test_width_64_is_pages_network() -> None:
    network = ResNet9(64, num_classes=10)
    assert sum(parameter.numel() for parameter in network.parameters()) == 6_573_120
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 9


def test_logits_start_small_so_that_a_high_rate_can_not_saturate_them() -> None:
    torch.manual_seed(0)
    logits = ResNet9(16, num_classes=10)(torch.randn(64, 3, 32, 32))
    assert LOGIT_SCALE == 0.125
    assert logits.abs().max() < 1
