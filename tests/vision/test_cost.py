"""The cost of a network is counted, and is the same on every machine."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cifar_tune.vision.config import ModelConfig
from cifar_tune.vision.cost import cost_of


class Pooled(nn.Module):
    """A convolution that sees 8 x 8 places, and a linear layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 4, stride=4), nn.Linear(4, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv(images).relu().mean(dim=(2, 3)))  # type: ignore[no-any-return]


def pooled(config: ModelConfig, num_classes: int) -> nn.Module:
    return Pooled(num_classes)


def test_convolutions_and_matrix_products_are_counted_by_hand_alike() -> None:
    """The lecture's network: 28 x 28 and 10 x 10 places of 5 x 5 windows, three linear layers."""
    convolutions = 28 * 28 * 6 * 75 + 10 * 10 * 16 * 150
    layers = 400 * 120 + 120 * 84 + 84 * 7
    cost = cost_of(ModelConfig(name="net"), num_classes=7)
    assert cost["multiply_adds"] == convolutions + layers
    assert cost["parameters"] == 6 * 76 + 16 * 151 + 401 * 120 + 121 * 84 + 85 * 7


def test_a_network_of_ones_own_is_counted_and_the_random_state_left_alone() -> None:
    before = torch.get_rng_state()
    cost = cost_of(ModelConfig(name="test_cost:pooled"), num_classes=3)
    assert cost == {"multiply_adds": 64 * 4 * 48 + 4 * 3, "parameters": 4 * 49 + 5 * 3}
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["resnet9", "speednet"])
def test_a_wider_network_costs_more(name: str) -> None:
    narrow, wide = (cost_of(ModelConfig(name=name, width=width), 10) for width in (4, 8))
    assert narrow["multiply_adds"] < wide["multiply_adds"]
    assert narrow["parameters"] < wide["parameters"]
