"""What Muon leaves to SGD: the last layer, biases and normalisation, and a whitening layer's bias.

After airbench94_muon (Keller Jordan 2024), which trains all but its convolutions so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from cifar_tune.vision.config import OptimConfig

WHITENING_BIAS = "whitening.bias"  # how its name ends


def sgd_settings(config: OptimConfig) -> list[dict[str, Any]]:
    """What a config says of the groups behind the matrices: weights, biases, whitening biases."""
    rest = {"momentum": config.rest_momentum, "nesterov": config.rest_momentum > 0, "sgd": True}
    rates = (config.head_lr, config.bias_lr, config.bias_lr)
    return [{"lr": rate, "weight_decay": config.weight_decay / rate, **rest} for rate in rates]


def split_for_sgd(
    module: nn.Module, parameters: list[list[nn.Parameter]]
) -> list[list[nn.Parameter]]:
    """The groups of a Muon with AdamW, the biases of whitening layers in one of their own."""
    named = module.named_parameters()
    whitening = {id(one) for name, one in named if name.endswith(WHITENING_BIAS)}
    *before, biases = parameters
    return [
        *before,
        [one for one in biases if id(one) not in whitening],
        [one for one in biases if id(one) in whitening],
    ]


def falls_early(
    factors: Sequence[Callable[[int], float]], config: OptimConfig, total_steps: int
) -> list[Callable[[int], float]]:
    """The schedule of each group; that of the whitening biases ends before the others."""
    part = config.whitening_bias_fraction
    if config.name != "muon" or config.muon_rest != "sgd" or part == 1.0:
        return [*factors]
    return [*factors[:-1], lambda step: max(0.0, 1 - step / (part * total_steps))]
