"""What a network costs, whatever the machine: multiply-adds, parameters, bytes of a checkpoint."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cifar_tune.plan.points import possible_values
from cifar_tune.vision.config import ModelConfig, VisionPlan, possible_models
from cifar_tune.vision.data_config import SIDE
from cifar_tune.vision.models import build_model, weightless


def cost_of(config: ModelConfig, num_classes: int, side: int = SIDE) -> dict[str, int]:
    """Count `multiply_adds` (of convolutions and matrix products, forward) and `parameters`.

    Images have side x side pixels. A training takes three times the former for each image and
    epoch. Raises PlanError as `build_model`.
    """
    with weightless(config):
        network = build_model(config, num_classes, side)
        network.eval()  # one of the user's own may return nothing
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, side, side))
    return {"multiply_adds": counter.get_total_flops() // 2, "parameters": _parameters(network)}


def checkpoint_bytes(plan: VisionPlan, num_classes: int, side: int = SIDE) -> int:
    """Size of the largest checkpoint of a plan: weights and the optimizer's state, in float32."""
    # Weights, and one or two moments; muon has a second one of the last layer and biases alone.
    copies = 3 if "adamw" in possible_values(plan, "optim.name") else 2
    largest = 0
    for model in possible_models(plan):
        with weightless(model):
            largest = max(largest, _parameters(build_model(model, num_classes, side)))
    return 4 * copies * largest


def _parameters(network: nn.Module) -> int:
    return sum(tensor.numel() for tensor in network.parameters())
