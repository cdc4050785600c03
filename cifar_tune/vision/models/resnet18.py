"""torchvision's ResNet-18 with a stem for 32 x 32 images."""

from __future__ import annotations

from torch import nn
from torchvision.models import resnet18


def cifar_resnet18(num_classes: int) -> nn.Module:
    """ResNet-18, not pretrained, 11.2 million parameters at 10 classes.

    The stem of ImageNet (7 x 7 with stride 2, then pooling) would leave 8 x 8 of a CIFAR image
    before the first block; here it is 3 x 3 with stride 1 and no pooling, as in the CIFAR
    networks of He et al. (2016, "Deep Residual Learning", section 4.2).
    """
    model: nn.Module = resnet18(weights=None, num_classes=num_classes)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model
