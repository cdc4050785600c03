"""The lecture's network has the layers of the tutorial."""

from __future__ import annotations

import torch

from cifar_tune.vision.models.lecture import Net


def test_the_network_has_the_tutorials_number_of_parameters() -> None:
    net = Net(120, 84, num_classes=10)
    assert sum(parameter.numel() for parameter in net.parameters()) == 62_006


def test_the_smallest_hidden_layers_of_the_lectures_search_work() -> None:
    assert Net(4, 4, num_classes=10)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
