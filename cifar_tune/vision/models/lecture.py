"""The lecture's network: two convolutions and three linear layers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cifar_tune.errors import PlanError


class Net(nn.Module):
    """The small convolutional network of the classic PyTorch CIFAR-10 tutorial.

    Two 5 x 5 convolutions, each followed by ReLU and 2 x 2 max pooling, leave 16 maps, of
    5 x 5 of images of 32 x 32; then hidden layers of `l1` and `l2` units.
    """

    def __init__(self, l1: int, l2: int, num_classes: int, side: int = 32) -> None:
        super().__init__()
        left = ((side - 4) // 2 - 4) // 2
        if left < 1:
            raise PlanError(
                f"data.image_size is {side}, and model.name=net needs at least 16: give that, or"
                " another network"
            )
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * left * left, l1)
        self.fc2 = nn.Linear(l1, l2)
        self.fc3 = nn.Linear(l2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float [batch, num_classes], of images, float [batch, 3, 32, 32]."""
        maps = F.max_pool2d(F.relu(self.conv1(images)), 2)  # [batch, 6, 14, 14]
        maps = F.max_pool2d(F.relu(self.conv2(maps)), 2)  # [batch, 16, 5, 5]
        hidden = F.relu(self.fc1(maps.flatten(1)))
        logits: Tensor = self.fc3(F.relu(self.fc2(hidden)))
        return logits
