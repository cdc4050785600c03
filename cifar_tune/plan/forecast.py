"""The forecast of a search as lines for people: what will run, where, and what it may need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cifar_tune.plan.config import ModelConfig, Plan
from cifar_tune.plan.machine import trials_per_gpu
from cifar_tune.plan.preflight import Forecast, model_names, possible_words
from cifar_tune.plan.rungs import rung_table
from cifar_tune.plan.space import Value

KEPT_CHECKPOINTS = 3  # newest, the one before, the best: of each trial that runs


def describe(forecast: Forecast, dataset: Sequence[str], folder: Path, *, disk: bool) -> list[str]:
    """The forecast as lines for people.

    Args:
        forecast: of the plan.
        dataset: what was understood of it, then sentences that a user should know.
        folder: of the results.
        disk: with the need for checkpoints, which imports torch.
    """
    plan, given = forecast.plan, forecast.share
    lines = [
        f"search      {plan.search.searcher} with {plan.search.scheduler}, {forecast.trials} trials"
        f" of at most {plan.train.max_epochs} epochs, by {plan.search.metric}",
        f"over        {', '.join(plan.search.space)}",
        f"at once     {_counted(given.slots, 'trial')}, each {_counted(given.cpus, 'CPU')}"
        + (f" and {given.gpus:g} GPU{'s' if given.gpus > 1 else ''}" if given.gpus else "")
        + (f" in {given.workers} workers" if given.workers > 1 else "")
        + f", precision {plan.train.precision}"
        + (", channels_last" if plan.train.channels_last else ""),
        *_sharing(forecast),
        f"data        {dataset[0]}",
    ]
    if forecast.rungs:
        lines += rung_table(plan, forecast.trials)
    lines.append(
        f"epochs      at most {forecast.most_epochs}"
        + (f", about {forecast.expected_epochs} if halving is ideal" if forecast.rungs else "")
    )
    lines.append(f"finals      {_finals(plan)}")
    if disk:
        need = _checkpoint_need(forecast)
        lines.append(f"disk        {need}; {forecast.free_bytes / 1e9:.1f} GB are free")
    lines.append(f"results     {folder}")
    return lines + [f"note        {note}" for note in (*dataset[1:], *forecast.notes)]


def _sharing(forecast: Forecast) -> list[str]:
    """How many trials share a GPU, and what each may take of it; nothing where none does."""
    count = trials_per_gpu(forecast.share.gpus) if forecast.share.gpus else 1
    if count == 1:
        return []
    memory = forecast.share.gpus * forecast.gpu_bytes / 1e9
    most = f", {memory:.1f} GB" if memory else ""
    return [
        f"gpu         {count} trials share one; each may take {forecast.share.gpus:.0%} of its"
        f" memory{most}, and one that needs more is tried again alone"
    ]


def _finals(plan: Plan) -> str:
    """What comes after the search, in a line."""
    finals, epochs = plan.finals, plan.train.max_epochs
    if not finals.seeds:
        return "none; the winner is scored on the test split once"
    last = f"{_counted(finals.seeds, 'seed')} of the best on all training images"
    if not compares(plan):
        return f"{last}, {finals.seeds * epochs} epochs"
    trainings = (finals.candidates + 1) * finals.seeds
    return (
        f"the best {finals.candidates} with {_counted(finals.seeds, 'fresh seed')} each, then"
        f" {last}: at most {trainings * epochs} epochs more"
    )


def compares(plan: Plan) -> bool:
    """Whether the finals compare candidates: that takes two, and images that no trial saw."""
    return plan.finals.candidates > 1 and plan.data.confirm_size != 0


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _checkpoint_need(forecast: Forecast) -> str:
    size = checkpoint_bytes(forecast.plan)
    # Each running trial keeps a few, each completed one its newest, and the winner lies in best/.
    kept = forecast.share.slots * KEPT_CHECKPOINTS + forecast.trials + 1
    return f"at most {kept} checkpoints of {size / 1e6:.1f} MB, {kept * size / 1e9:.2f} GB"


def checkpoint_bytes(plan: Plan) -> int:
    """Size of the largest checkpoint of a plan: weights and the optimizer's state, in float32."""
    import torch

    from cifar_tune.vision.models import build_model

    # Weights, and one or two moments; muon has a second one of the last layer and biases alone.
    copies = 3 if "adamw" in possible_words(plan, "optim.name", plan.optim.name) else 2
    largest = 0
    for model in _largest_models(plan):
        # Code of the user's own may ask for numbers, which tensors on "meta" do not have.
        with torch.device("cpu" if ":" in model.name else "meta"):
            network = build_model(model, num_classes=10)
        largest = max(largest, sum(tensor.numel() for tensor in network.parameters()))
    return 4 * copies * largest


def _largest_models(plan: Plan) -> list[ModelConfig]:
    """The plan's model, or each searched kind of model, with the largest searched sizes."""
    space = {dimension.field: dimension for dimension in plan.search.parsed_space}
    largest: dict[str, Value] = {}
    for field, dimension in space.items():
        if field.startswith("model.") and field != "model.name":
            numbers = [value for value in dimension.values if isinstance(value, int)]
            largest[field.removeprefix("model.")] = max(numbers, default=int(dimension.high))
    names = model_names(plan)
    return [plan.model.model_copy(update={"name": name, **largest}) for name in names]
