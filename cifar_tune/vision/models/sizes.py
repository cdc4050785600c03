"""How large the checkpoints of a plan can be."""

from __future__ import annotations

import torch

from cifar_tune.plan.points import possible_values
from cifar_tune.vision.config import ModelConfig, VisionPlan
from cifar_tune.vision.models import build_model


def checkpoint_bytes(plan: VisionPlan, num_classes: int) -> int:
    """Size of the largest checkpoint of a plan: weights and the optimizer's state, in float32."""
    # Weights, and one or two moments; muon has a second one of the last layer and biases alone.
    copies = 3 if "adamw" in possible_values(plan, "optim.name") else 2
    largest = 0
    for model in _largest_models(plan):
        # Code of the user's own may ask for numbers, which tensors on "meta" do not have.
        with torch.device("cpu" if ":" in model.name else "meta"):
            network = build_model(model, num_classes)
        largest = max(largest, sum(tensor.numel() for tensor in network.parameters()))
    return 4 * copies * largest


def _largest_models(plan: VisionPlan) -> list[ModelConfig]:
    """The plan's model, or each searched kind of model, with the largest searched sizes."""
    searched = [field for field in plan.search.space if field.startswith("model.")]
    largest = {
        field.removeprefix("model."): max(int(size or 0) for size in possible_values(plan, field))
        for field in searched
        if field != "model.name"
    }
    names = possible_values(plan, "model.name")
    return [plan.model.model_copy(update={"name": str(name), **largest}) for name in names]
