"""What a network costs, whatever the machine: multiply-adds of one image, and parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cifar_tune.vision.config import ModelConfig
from cifar_tune.vision.data.dataset import IMAGE_SIDE
from cifar_tune.vision.models import build_model

if TYPE_CHECKING:
    from torch import nn


def cost_of(config: ModelConfig, num_classes: int) -> dict[str, int]:
    """Count `multiply_adds` (of convolutions and matrix products, forward) and `parameters`.

    A training takes three times the former for each image and epoch.

    Args:
        config: the plan's section.
        num_classes: outputs of the last layer.

    Raises:
        PlanError: the model can't be built.
    """
    import torch

    # On "meta" ours take neither time nor random numbers; the user's may need real tensors.
    with torch.random.fork_rng(devices=[]), torch.device("cpu" if ":" in config.name else "meta"):
        network = build_model(config, num_classes)
        return {
            "multiply_adds": _multiply_adds(network),
            "parameters": sum(tensor.numel() for tensor in network.parameters()),
        }


def _multiply_adds(network: nn.Module) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, IMAGE_SIDE, IMAGE_SIDE))
    return int(counter.get_total_flops()) // 2
