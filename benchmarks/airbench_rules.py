"""How airbench94_muon (Keller Jordan 2024) trains, in a bare loop, on our network and batches.

The rules are his (github.com/KellerJordan/cifar10-airbench, airbench94_muon.py), the code is ours:
the summed loss; Muon with its weights brought to the norm sqrt(rows) each step, three Newton-Schulz
steps and no warm-up; SGD with Nesterov momentum for biases and the head; a whitening bias that is
trained for three of eight epochs. On a GPU the program is also what our steps are compared with.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar_tune.vision.data.datamodule import EvalLoader, TrainLoader
from cifar_tune.vision.models.resnet9 import LOGIT_SCALE
from cifar_tune.vision.models.speednet import SpeedNet

BIAS_LR, HEAD_LR, MUON_LR = 0.053, 0.67, 0.24
DECAY = 2e-6  # times the batch size
WHITENING_PART = 3 / 8  # of the steps


def head_lr(width: int) -> float:
    """His rate of the head, for ours: he divides logits by its inputs, we by a constant."""
    return HEAD_LR / (4 * width * LOGIT_SCALE) ** 2


def orthogonal(gradient: Tensor, steps: int = 3) -> Tensor:
    a, b, c = 3.4445, -4.7750, 2.0315
    x: Tensor = gradient.bfloat16()
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


class MuonByTheRules:
    """His Muon, one matrix after the other."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._parameters = parameters
        self._moments = [torch.zeros_like(one) for one in parameters]

    @torch.no_grad()
    def step(self, rate: float, momentum: float = 0.6) -> None:
        for one, moment in zip(self._parameters, self._moments, strict=True):
            assert one.grad is not None
            moment.mul_(momentum).add_(one.grad)
            ahead = one.grad.add(moment, alpha=momentum)
            one.mul_(math.sqrt(len(one)) / one.norm())
            one.add_(orthogonal(ahead.flatten(1)).view_as(one), alpha=-rate)


def train(model: SpeedNet, loader: TrainLoader, set_epoch: list[int], epochs: int) -> None:
    """Train a fresh network; `set_epoch` holds the number that the loader draws its epoch by."""
    with torch.no_grad():  # his head starts with a standard deviation of 1, before the division
        scale = model.head.in_features * LOGIT_SCALE
        model.head.weight.mul_(1 / (model.head.weight.std() * scale))
    total, batch = epochs * len(loader), loader.examples_in(0)
    filters = [p for p in model.parameters() if p.ndim == 4 and p.requires_grad]
    norms = [p for name, p in model.named_parameters() if "norm" in name and p.requires_grad]
    whitening, head = model.whitening.bias, model.head.weight
    width, decay = model.head.in_features // 4, DECAY * batch
    rates = {"bias": BIAS_LR, "norms": BIAS_LR, "head": head_lr(width)}
    groups = [
        {"params": params, "lr": rate, "weight_decay": decay / rate}
        for params, rate in zip(([whitening], norms, [head]), rates.values(), strict=True)
    ]
    rest = torch.optim.SGD(groups, momentum=0.85, nesterov=True, fused=True)
    muon, step = MuonByTheRules(filters), 0
    for epoch in range(epochs):
        set_epoch[0] = epoch
        model.train()
        for images, labels in loader:
            loss = F.cross_entropy(model(images), labels, label_smoothing=0.2, reduction="sum")
            loss.backward()  # type: ignore[no-untyped-call]
            left = 1 - step / total
            early = max(0.0, 1 - step / (WHITENING_PART * total))
            for group, rate, part in zip(
                rest.param_groups, rates.values(), (early, left, left), strict=True
            ):
                group["lr"] = rate * part
            rest.step()
            muon.step(MUON_LR * left)
            model.zero_grad(set_to_none=True)
            step += 1


@torch.no_grad()
def accuracy(model: nn.Module, loader: EvalLoader) -> float:
    model.eval()
    right = [(model(images).argmax(1) == labels).sum() for images, labels in loader]
    return float(torch.stack(right).sum()) / sum(len(labels) for _, labels in loader)
