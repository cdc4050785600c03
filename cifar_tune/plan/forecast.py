"""The forecast of a search as lines for people: what will run, where, and what it may need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cifar_tune.errors import counted
from cifar_tune.plan.abilities import Exports
from cifar_tune.plan.config import Plan
from cifar_tune.plan.gpus import CUDA_BYTES
from cifar_tune.plan.machine import trials_per_gpu
from cifar_tune.plan.preflight import Forecast
from cifar_tune.plan.rungs import expected_epochs, pause_epochs, rung_epochs, rung_table
from cifar_tune.plan.task import task_of

KEPT_CHECKPOINTS = 3  # newest, the one before, the best: of each trial that runs


def describe(forecast: Forecast, data: Sequence[str], folder: Path, *, disk: bool) -> list[str]:
    """The forecast as lines for people.

    Args:
        data: what was understood of it, then sentences that a user should know.
        disk: with the need for checkpoints, which takes seconds.
    """
    plan, given = forecast.plan, forecast.share
    trials, epochs = plan.search.num_samples, plan.train.max_epochs
    lines = [
        f"search      {plan.search.searcher} with {plan.search.scheduler}, {trials} trials of at"
        f" most {epochs} epochs, by {', '.join(goal.metric for goal in plan.search.goals)}",
        f"over        {', '.join(plan.search.space)}",
        f"at once     {counted(given.slots, 'trial')}, each {counted(given.cpus, 'CPU')}"
        + (f" and {given.gpus:g} GPU{'s' if given.gpus > 1 else ''}" if given.gpus else "")
        + (f" in {given.workers} workers" if given.workers > 1 else "")
        + f", precision {plan.train.precision}"
        + (", channels_last" if plan.train.channels_last else "")
        + _gpu_arithmetic(plan),
        *_sharing(forecast),
        *(f"data        {sentence}" for sentence in data[:1]),
        *rung_table(plan, trials),
    ]
    halving = f", about {expected_epochs(plan, trials)} if halving is ideal"
    lines.append(f"epochs      at most {trials * epochs}{halving if rung_epochs(plan) else ''}")
    lines.append(f"finals      {_finals(plan)}")
    need = _checkpoint_need(forecast) if disk else None
    if need is not None:
        lines.append(f"disk        {need}; {forecast.free_bytes / 1e9:.1f} GB are free")
    lines.append(f"results     {folder}")
    return lines + [f"note        {note}" for note in (*data[1:], *forecast.notes)]


def _gpu_arithmetic(plan: Plan) -> str:
    if not plan.on_gpu:
        return ""
    exact = "" if plan.train.deterministic else "not "
    return f", {'TF32, ' if plan.train.tf32 else ''}{exact}deterministic"


def _sharing(forecast: Forecast) -> list[str]:
    """How many trials share a GPU, and what each may take of it; nothing where none does."""
    count = trials_per_gpu(forecast.share.gpus) if forecast.share.gpus else 1
    if count == 1:
        return []
    memory = forecast.share.gpus * forecast.gpu_bytes / 1e9
    most = f", {memory:.1f} GB," if memory else ""
    return [
        f"gpu         {count} trials share one; each may take {forecast.share.gpus:.0%} of its"
        f" memory{most} of which CUDA itself has about {CUDA_BYTES / 1e9:.1f} GB, and one that"
        " needs more is tried again alone"
    ]


def _finals(plan: Plan) -> str:
    finals, epochs = plan.finals, plan.train.max_epochs
    if not finals.seeds:
        return "none; the winner is scored on the test split once"
    last = f"{counted(finals.seeds, 'seed')} of the best on all training data"
    if not compares(plan):
        return f"{last}, {finals.seeds * epochs} epochs"
    trainings = (finals.compared + 1) * finals.seeds
    return (
        f"the best {finals.compared} with {counted(finals.seeds, 'fresh seed')} each, then"
        f" {last}: at most {trainings * epochs} epochs more"
    )


def compares(plan: Plan) -> bool:
    """Whether the finals compare candidates: that takes two."""
    return plan.finals.compared > 1 and task_of(plan).holds_out(plan)


def _checkpoint_need(forecast: Forecast) -> str | None:
    task = task_of(forecast.plan)
    if not isinstance(task, Exports):
        return None
    size = task.checkpoint_bytes(forecast.plan)
    # Each running trial keeps a few, each completed one its newest, each that waits for others one
    # more, and the winner lies in best/.
    trials = forecast.plan.search.num_samples * (2 if pause_epochs(forecast.plan) else 1)
    # With checkpoints that wait, two of these may have their best along.
    each = KEPT_CHECKPOINTS + 2 * forecast.plan.search.spares_epochs
    kept = forecast.share.slots * each + trials + 1
    return f"at most {kept} checkpoints of {size / 1e6:.1f} MB, {kept * size / 1e9:.2f} GB"
