"""Every check that can refuse a plan before anything starts, and the plan's forecast."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cifar_tune.vision.data as data_room
from cifar_tune.errors import PlanError, ResourceError
from cifar_tune.files import nearest_folder
from cifar_tune.plan.compatibility import check_pair, is_model_based
from cifar_tune.plan.config import Plan
from cifar_tune.plan.machine import (
    CLUSTER,
    HERE,
    Machine,
    Share,
    check_compiler,
    least,
    settle,
    share_of,
)
from cifar_tune.plan.points import count_points, grid_points
from cifar_tune.plan.rungs import expected_epochs, rung_epochs, rungs_below
from cifar_tune.plan.space import SpaceError
from cifar_tune.vision.data import Found
from cifar_tune.vision.models import check_model_name


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a plan will do, as far as it can be known before the start."""

    plan: Plan
    share: Share
    trials: int
    rungs: tuple[int, ...]
    most_epochs: int
    expected_epochs: int
    free_bytes: int
    gpu_bytes: int
    notes: tuple[str, ...]


def check(plan: Plan, nodes: Sequence[Machine]) -> Forecast:
    """Check a loaded plan against itself and the nodes, and settle what it leaves open.

    Data and results folder have checks of their own (`check_folder`, `check_data`); the order is
    plan, resources, results folder, data.

    Args:
        plan: as `load_plan` gives it.
        nodes: the machines on which trials can run: this one, or those of a cluster.

    Raises:
        PlanError, ResourceError: with value, rule and remedy.
    """
    notes = check_search(plan)
    given = share_of(plan.resources, nodes, HERE if plan.resources.address is None else CLUSTER)
    settled = _settled(plan, least(nodes), given)
    _check_precision(settled)
    _check_compile(settled)
    _check_share("batch_size", min(_batch_sizes(plan)), given.workers)
    _check_share("val_size", plan.data.val_size, given.workers)
    _check_models(plan)
    if plan.train.sync_batchnorm and given.workers == 1:
        notes.append("train.sync_batchnorm changes nothing: each trial has one worker")
    if plan.tracking.watch and plan.tracking.wandb is None:
        notes.append("tracking.watch needs --wandb PROJECT: no gradients are recorded")
    epochs, count = plan.train.max_epochs, number_of_trials(plan)
    rungs = rung_epochs(plan)
    return Forecast(
        plan=settled,
        share=given,
        trials=count,
        rungs=rungs,
        most_epochs=count * epochs,
        expected_epochs=expected_epochs(plan, count),
        gpu_bytes=least(nodes).gpu_bytes,
        free_bytes=shutil.disk_usage(nearest_folder(Path(plan.out))).free,
        notes=(*notes, *given.notes),
    )


def _settled(plan: Plan, machine: Machine, given: Share) -> Plan:
    cpus = given.cpus // given.workers
    train = settle(plan.train, machine, cpus=cpus, gpu=given.gpus > 0)
    resources = plan.resources.model_copy(
        update={
            "cpus_per_trial": given.cpus,
            "gpus_per_trial": given.gpus,
            "workers_per_trial": given.workers,
        }
    )
    search = plan.search.model_copy(update={"num_samples": number_of_trials(plan)})
    return plan.model_copy(update={"train": train, "resources": resources, "search": search})


def number_of_trials(plan: Plan) -> int:
    """Trials of a search: the samples, or the points of the space if those are fewer.

    A grid runs all its points if no number is given. A model-based searcher suggests none twice;
    random and Sobol search may.
    """
    search = plan.search
    if search.searcher == "grid":
        points = len(grid_points(search.parsed_space))
        limited = "num_samples" in search.model_fields_set
        return min(points, search.num_samples) if limited else points
    distinct = count_points(search.parsed_space) if is_model_based(search.searcher) else None
    return search.num_samples if distinct is None else min(distinct, search.num_samples)


def check_search(plan: Plan) -> list[str]:
    """Check what has nothing to do with resources; notes on it.

    Raises:
        PlanError: with value, rule and remedy.
    """
    search, epochs = plan.search, plan.train.max_epochs
    notes = check_pair(plan)
    try:
        count = number_of_trials(plan)
    except SpaceError as error:
        raise PlanError(str(error)) from None
    check_number_of_points(plan, count)
    if search.searcher == "grid":
        points = len(grid_points(search.parsed_space))
        notes.append(f"grid search: {count} of {points} grid points, in their order")
    elif count < search.num_samples:
        notes.append(
            f"search.space has {count} points and search.num_samples is {search.num_samples}:"
            f" {count} trials, none of them twice"
        )
    rungs = rung_epochs(plan)
    if rungs and not rungs_below(rungs, epochs):
        name = search.scheduler
        notes.append(f"{name} has no rung below epoch {epochs}: no trial is stopped early")
    notes += _early_rung(plan, rungs)
    if search.checkpoint_every_epochs > epochs:
        raise PlanError(
            f"search.checkpoint_every_epochs is {search.checkpoint_every_epochs}, above"
            f" train.max_epochs, which is {epochs}; lower it"
        )
    return notes


def _early_rung(plan: Plan, rungs: Sequence[int]) -> list[str]:
    """A note where trials are judged before they have learnt much: on recorded curves, a first rung
    in epoch 1 cost 3 points with asha and 12 with halving (benchmarks/early_stopping.py)."""
    optim, epochs = plan.optim, plan.train.max_epochs
    warm = optim.warmup_fraction * epochs
    if optim.schedule == "constant" or not rungs_below(tuple(rungs), epochs) or rungs[0] >= warm:
        return []
    return [
        f"the first rung is epoch {rungs[0]}, and the learning rate rises until epoch {warm:.1f}"
        " (optim.warmup_fraction): what is stopped there has hardly learnt; a search.grace_period"
        f" of {min(epochs, math.ceil(warm))} is safer and takes more epochs"
    ]


def possible_words(plan: Plan, field: str, fixed: str) -> list[str]:
    """The words that a field can take in a trial: those searched, else the plan's own."""
    searched = [d.values for d in plan.search.parsed_space if d.field == field]
    return [str(word) for word in (searched[0] if searched else (fixed,))]


def model_names(plan: Plan) -> list[str]:
    """The kinds of model that can be trained."""
    return possible_words(plan, "model.name", plan.model.name)


def has_own_model(plan: Plan) -> bool:
    """Whether a model of the user's own, `package.module:build`, can be trained."""
    return any(":" in name for name in model_names(plan))


def _check_models(plan: Plan) -> None:
    """A model of the user's own is built once: a mistake in it shows here, not in each trial."""
    for name in model_names(plan):
        check_model_name(name)
        if ":" in name:
            from cifar_tune.vision.models import build_model

            build_model(plan.model.model_copy(update={"name": name}), num_classes=10)


def _check_precision(plan: Plan) -> None:
    precisions = possible_words(plan, "train.precision", plan.train.precision)
    if "16" in precisions and not plan.on_gpu:
        raise PlanError("train.precision is 16, which needs a GPU; give bf16, 32 or auto")


def _check_compile(plan: Plan) -> None:
    if "True" in possible_words(plan, "train.compile", str(plan.train.compile)):
        check_compiler(gpu=plan.on_gpu)


def check_waiting(plan: Plan) -> None:
    """Refuse to wait for what can't come.

    Raises:
        ResourceError: this machine's own CPUs and GPUs do not get more.
    """
    if plan.resources.address is None:
        raise ResourceError(
            "--wait-for-resources waits until a cluster has room, and there is no --address; leave"
            " it out on a single machine"
        )


def check_data(plan: Plan) -> Found:
    """Check that the dataset is there and large enough, without decoding it.

    Raises:
        DataError: it is missing, nothing that can be read, or too small for the splits.
        PlanError: not every worker would have an image to validate on.
    """
    found = data_room.describe(plan.data)
    _check_share("val_size", found.config.val_size, plan.workers)
    batch, epochs, drop_last = max(_batch_sizes(plan)), plan.train.max_epochs, plan.data.drop_last
    few = data_room.few_steps(found.train_size, batch, epochs, drop_last=drop_last)
    return replace(found, sentences=(*found.sentences, *few))


def _batch_sizes(plan: Plan) -> list[int]:
    """The batch sizes that can be drawn, or the bounds of their range."""
    sizes = [plan.data.batch_size]
    for dimension in plan.search.parsed_space:
        if dimension.field == "data.batch_size":
            listed = [int(v) for v in dimension.values if v is not None]
            drawn = listed or [int(dimension.low), int(dimension.high)]
            sizes = [*drawn, *(sizes if dimension.when else [])]
    return sizes


def _check_share(name: str, size: int | float | str, workers: int) -> None:
    """Every worker of a trial needs images of every batch, and of the validation."""
    if isinstance(size, int) and size < workers:
        raise PlanError(
            f"data.{name} can be {size}, shared by {workers} workers (--workers-per-trial); it"
            f" must be at least one image each: raise it, or pass {size} or fewer"
        )


def check_number_of_points(plan: Plan, trials: int) -> None:
    """Refuse a list of more points than there will be trials.

    Raises:
        PlanError: with both numbers.
    """
    given = plan.search.start_from
    if isinstance(given, list) and len(given) > trials:
        raise PlanError(
            f"search.start_from has {len(given)} points, and there will be {trials} trials; raise"
            " --num-samples, or leave points out"
        )
