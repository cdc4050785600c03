"""What a network costs: multiply-adds, parameters, bytes of a checkpoint, and time for an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import torch
from torch import nn
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from cifar_tune.plan.points import possible_values
from cifar_tune.train.apart import apart
from cifar_tune.vision.config import ModelConfig, VisionPlan, possible_models
from cifar_tune.vision.data_config import SIDE
from cifar_tune.vision.models import build_model, weightless

TIMED_SECONDS = 0.5  # at least, for the median of one network


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


def latencies(models: Sequence[ModelConfig], num_classes: int, side: int = SIDE) -> Iterator[float]:
    """Milliseconds that one image, [1, 3, side, side], takes through each network: medians.

    In float32, on the GPU if there is one, all in a process of its own, else on a thread of the
    CPU. Weights are random, for the time does not depend on them; equal networks are timed once.
    Raises PlanError as `build_model`.
    """
    bare = [config.model_copy(update={"weights": None}).model_dump_json() for config in models]
    if torch.cuda.is_available():
        yield from apart(_latencies, bare, num_classes, side, "cuda")
    else:
        yield from (_latency(told, num_classes, side, "cpu") for told in bare)


def _latencies(bare: Sequence[str], num_classes: int, side: int, device: str) -> list[float]:
    return [_latency(told, num_classes, side, device) for told in bare]


@cache
def _latency(told: str, num_classes: int, side: int, device: str) -> float:
    config = ModelConfig.model_validate_json(told)
    network = build_model(config, num_classes, side).to(device).eval()
    image = torch.zeros(1, 3, side, side, device=device)
    timer = Timer("network(image)", globals={"network": network, "image": image})
    with torch.inference_mode():
        return 1e3 * float(timer.blocked_autorange(min_run_time=TIMED_SECONDS).median)


def _parameters(network: nn.Module) -> int:
    return sum(tensor.numel() for tensor in network.parameters())
