"""Which of the shipped configs suits one's own images: fine-tuning, or training from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cifar_tune.errors import CifarTuneError, DataError
from cifar_tune.plan.abilities import Suggestion
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.space import Value
from cifar_tune.plan.task import Say
from cifar_tune.vision.config import ModelConfig, VisionPlan, is_weights_name
from cifar_tune.vision.data.found import Found
from cifar_tune.vision.data_config import SIDE, DataConfig

FINE_TUNED, FROM_SCRATCH = "folder", "folder-scratch"
ENOUGH = 40_000  # images, each counted as often as it is trained on
FEWEST_EPOCHS, MOST_EPOCHS = 3, 30
WELL_JUDGED = 1_000  # validation images, by which the best needs no second look
SIDE_FROM_SCRATCH = 64  # at most: at 224 an epoch of 144 images took a CPU core 33 s
FEW, SMALL_BATCHES = 1000, (16, 8, 4)  # a small set has more steps an epoch by smaller batches
FEW_BATCHES = 8  # an epoch should have more, as far as the smallest batches allow


def suggest(given: Mapping[str, Any], say: Say) -> Suggestion | None:
    """The config for images larger than CIFAR's, for which the plan's defaults are made.

    Args:
        given: fields of the plan, by their dotted names; what is wrong with them is told later.
        say: is told of a download: without weights nothing can be fine-tuned.
    """
    found = _found({k.removeprefix("data."): v for k, v in given.items() if k.startswith("data.")})
    if found is None or found.config.side <= SIDE:
        return None
    size, side = found.train_size, found.config.side
    epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(ENOUGH / size)))
    values: dict[str, Value] = {"train.max_epochs": epochs}
    if size < FEW:
        enough = (batch for batch in SMALL_BATCHES if size // batch > FEW_BATCHES)
        values["data.batch_size"] = next(enough, SMALL_BATCHES[-1])
    if int(found.config.val_size) >= WELL_JUDGED:
        values["finals.candidates"] = 1
    config = FINE_TUNED if _can_start(given, say) else FROM_SCRATCH
    if config == FROM_SCRATCH and side > SIDE_FROM_SCRATCH:
        values["data.image_size"] = SIDE_FROM_SCRATCH
    return Suggestion(config, values, f"{size:,} training images of {side} x {side}")


def _found(data: Mapping[str, Any]) -> Found | None:
    """What lies at the path; none where there is no path, or nothing good."""
    from cifar_tune.vision.data import describe

    if data.get("path") is None:
        return None
    try:
        return describe(DataConfig.model_validate({**data, "path": str(Path(data["path"]))}))
    except (CifarTuneError, ValidationError, TypeError):
        return None


def _can_start(given: Mapping[str, Any], say: Say) -> bool:
    """Whether there are weights that the network can start from."""
    plan = load_plan(FINE_TUNED)
    assert isinstance(plan, VisionPlan)
    name = given.get("model.name", plan.model.name)
    weights = given.get("model.weights", plan.model.weights)
    if not isinstance(weights, str) or not is_weights_name(weights):
        return weights is not None
    if not str(name).startswith("torchvision/"):
        return False
    from cifar_tune.vision.published import named_weights

    try:
        named_weights(ModelConfig.model_construct(name=name, weights=weights), say)
    except DataError as error:
        say(f"note        {name} can't be fine-tuned: {error}")
        return False
    except CifarTuneError:
        pass  # the plan is refused for it
    return True
