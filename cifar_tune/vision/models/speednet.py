"""A network that learns CIFAR-10 in a few passes at large batches, on whitened patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar_tune.vision.models.resnet9 import LOGIT_SCALE

PATCH = 2  # height and width of the patches that are whitened
WHITENED = 2 * 3 * PATCH * PATCH  # channels: each direction with both signs
LEAST_VARIANCE = 5e-4  # added to that of a direction, or noise would be blown up
STATISTICS_MOMENTUM = 0.4  # of BatchNorm's running figures: a training has few steps


class SpeedNet(nn.Module):
    """A frozen whitening layer, six 3 x 3 convolutions without shortcuts, and a linear layer.

    The plan of Keller Jordan's airbench94 (arXiv 2404.00498; widths and momentum those of
    airbench94_muon.py, 2024), which goes back to David Page's and tysam-code's networks. At width
    64 it has 2 million parameters.

    Args:
        width: channels of the first stage; the other two have four times as many.
        num_classes: outputs.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.whitening = nn.Conv2d(3, WHITENED, PATCH)
        self.whitening.weight.requires_grad_(False)
        self.stage1 = Stage(WHITENED, width)
        self.stage2 = Stage(width, 4 * width)
        self.stage3 = Stage(4 * width, 4 * width)
        self.head = nn.Linear(4 * width, num_classes, bias=False)

    def init_from_images(self, images: Tensor) -> None:
        """Set the first layer's weights, which no step changes, from normalised training images.

        Its outputs are the patches' principal components, each with about variance 1, and the same
        negated, so that the activation loses nothing (Page, "How to train your ResNet 8", 2019).
        Images are float [n, 3, 32, 32].
        """
        covariance = patch_covariance(images)
        variances, directions = torch.linalg.eigh(covariance)  # a direction in each column
        filters = (directions / (variances + LEAST_VARIANCE).sqrt()).T.view(-1, 3, PATCH, PATCH)
        with torch.no_grad():
            self.whitening.weight.copy_(torch.cat([filters, -filters]))

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float [batch, num_classes], of images, float [batch, 3, 32, 32]."""
        maps = F.gelu(self.whitening(images))  # [batch, 24, 31, 31]
        maps = self.stage3(self.stage2(self.stage1(maps)))  # [batch, 4 width, 3, 3]
        logits: Tensor = self.head(maps.amax(dim=(2, 3))) * LOGIT_SCALE
        return logits


def patch_covariance(images: Tensor) -> Tensor:
    """Mean outer product of all 2 x 2 patches of images [n, 3, h, w]: float64 [12, 12]."""
    total = torch.zeros(3 * PATCH * PATCH, 3 * PATCH * PATCH, dtype=torch.float64)
    for part in torch.split(images, 100):  # 5 MB of patches at once
        patches = F.unfold(part, PATCH).transpose(0, 1).flatten(1)  # [12, patches]
        total += (patches @ patches.T).to(total)
    return total / (len(images) * (images.shape[2] - PATCH + 1) * (images.shape[3] - PATCH + 1))


class Stage(nn.Module):
    """Two convolutions, each with normalisation and GELU; the first halves height and width."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = _convolution(channels_in, channels_out)
        self.norm1 = _normalisation(channels_out)
        self.conv2 = _convolution(channels_out, channels_out)
        self.norm2 = _normalisation(channels_out)

    def forward(self, maps: Tensor) -> Tensor:
        maps = F.gelu(self.norm1(F.max_pool2d(self.conv1(maps), 2)))
        return F.gelu(self.norm2(self.conv2(maps)))


def _convolution(channels_in: int, channels_out: int) -> nn.Conv2d:
    """A convolution whose first filters hand their inputs on, so that the signal arrives whole."""
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight[:channels_in])
    return conv


def _normalisation(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation whose scale stays 1: only its bias is trained, as in airbench."""
    norm = nn.BatchNorm2d(channels, momentum=STATISTICS_MOMENTUM)
    norm.weight.requires_grad_(False)
    return norm
