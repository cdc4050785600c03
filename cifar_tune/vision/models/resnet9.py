"""ResNet-9 with a free width: small enough for two CPU cores at 16, 94 % on CIFAR-10 at 64."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

# Page's factor on the logits: they start small, so that a high learning rate can't saturate the
# softmax in the first steps (myrtle.ai, "How to train your ResNet", 2018).
LOGIT_SCALE = 0.125


class ResNet9(nn.Module):
    """Eight 3 x 3 convolutions with two shortcuts, and a linear layer.

    David Page's network of "How to train your ResNet" (myrtle.ai, 2018) for 32 x 32 images, with
    its 64 channels of the first stage as a parameter.

    Args:
        width: channels of the first stage; the others have 2, 4 and 8 times as many.
        num_classes: outputs.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.stem = ConvNorm(3, width)
        self.stage1 = nn.Sequential(ConvNorm(width, 2 * width, pool=True), Residual(2 * width))
        self.stage2 = ConvNorm(2 * width, 4 * width, pool=True)
        self.stage3 = nn.Sequential(ConvNorm(4 * width, 8 * width, pool=True), Residual(8 * width))
        self.head = nn.Linear(8 * width, num_classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float [batch, num_classes], of images, float [batch, 3, 32, 32]."""
        maps = self.stage3(self.stage2(self.stage1(self.stem(images))))  # [batch, 8 width, 4, 4]
        logits: Tensor = self.head(maps.amax(dim=(2, 3))) * LOGIT_SCALE
        return logits


class ConvNorm(nn.Module):
    """A 3 x 3 convolution, batch normalisation and ReLU.

    `pool` halves height and width by the maximum right after the convolution: the normalisation
    then has a quarter of the numbers to work on (as in Keller Jordan's airbench).
    """

    def __init__(self, channels_in: int, channels_out: int, *, pool: bool = False) -> None:
        super().__init__()
        self.pool = pool
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.conv(maps)
        maps = F.max_pool2d(maps, 2) if self.pool else maps
        return F.relu(self.norm(maps), inplace=True)


class Residual(nn.Module):
    """Two `ConvNorm` and a shortcut around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels)
        self.second = ConvNorm(channels, channels)

    def forward(self, maps: Tensor) -> Tensor:
        inner: Tensor = self.second(self.first(maps))
        return maps + inner
