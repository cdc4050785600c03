"""Which of the shipped configs suits one's own images: fine-tuning, or training from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cifar_tune.errors import CifarTuneError, DataError
from cifar_tune.plan.abilities import Suggestion
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.task import Say
from cifar_tune.vision.config import SIDE, DataConfig, ModelConfig, VisionPlan, is_weights_name

FINE_TUNED, FROM_SCRATCH = "folder", "folder-scratch"


def suggest(given: Mapping[str, Any], say: Say) -> Suggestion | None:
    """The config for images larger than CIFAR's; for others the plan's defaults are made.

    Args:
        given: fields of the plan, by their dotted names; what is wrong with them is told later.
        say: is told of a download: without weights nothing can be fine-tuned.
    """
    side = _side_of({k.removeprefix("data."): v for k, v in given.items() if k.startswith("data.")})
    if side is None or side <= SIDE:
        return None
    larger = f"the images are larger than CIFAR's ({side} x {side})"
    plan = load_plan(FINE_TUNED)
    assert isinstance(plan, VisionPlan)
    model = ModelConfig.model_construct(
        name=given.get("model.name", plan.model.name),
        weights=given.get("model.weights", plan.model.weights),
    )
    if isinstance(model.weights, str) and not is_weights_name(model.weights):
        return Suggestion(FINE_TUNED, f"{larger}, and there are weights to start from")
    if model.weights is None or not str(model.name).startswith("torchvision/"):
        return Suggestion(FROM_SCRATCH, f"{larger}, and {model.name} has no weights to start from")
    try:
        from cifar_tune.vision.published import named_weights

        named_weights(model, say)
    except DataError as error:
        return Suggestion(FROM_SCRATCH, f"{larger}, and there is nothing to start from: {error}")
    except CifarTuneError:
        return Suggestion(FINE_TUNED, larger)  # which then refuses them
    return Suggestion(FINE_TUNED, f"{larger}: {model.name} is fine-tuned")


def _side_of(data: Mapping[str, Any]) -> int | None:
    """What the images of a folder or an archive of one's own are brought to; none: no such data."""
    from cifar_tune.vision.data import describe

    if data.get("path") is None:
        return None
    try:
        found = describe(DataConfig.model_validate({**data, "path": str(Path(data["path"]))}))
    except (CifarTuneError, ValidationError, TypeError):
        return None
    return found.config.side
