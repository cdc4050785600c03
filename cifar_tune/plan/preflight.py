"""Every check that can refuse a plan before anything starts, and the plan's forecast."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cifar_tune.errors import PlanError, ResourceError
from cifar_tune.plan.abilities import Combines
from cifar_tune.plan.compatibility import check_pair, is_model_based
from cifar_tune.plan.compiler import check_compiler
from cifar_tune.plan.config import Plan
from cifar_tune.plan.gpus import CUDA_BYTES, allocator_share
from cifar_tune.plan.machine import (
    CLUSTER,
    HERE,
    Machine,
    Share,
    least,
    settle,
    share_on,
)
from cifar_tune.plan.place import nearest_folder
from cifar_tune.plan.points import count_points, grid_points, possible_values
from cifar_tune.plan.rungs import first_rung, rung_epochs, rungs_below
from cifar_tune.plan.section import OWN_NAME
from cifar_tune.plan.task import task_of


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """A plan in which all is settled, and what is there to carry it out."""

    plan: Plan
    share: Share
    free_bytes: int
    gpu_bytes: int
    notes: tuple[str, ...]


def check(plan: Plan, nodes: Sequence[Machine]) -> Forecast:
    """Check a loaded plan against itself and the nodes for trials; settle what it leaves open.

    Results folder and data have checks of their own (`session.folder`, `Task.find`); the order is
    plan, resources, results folder, data.

    Raises:
        PlanError, ResourceError: with value, rule and remedy.
    """
    notes = check_search(plan)
    given = share_on(plan.resources, nodes, HERE if plan.resources.address is None else CLUSTER)
    settled = _settled(plan, least(nodes), given)
    _check_gpu_memory(given.gpus, least(nodes).gpu_bytes)
    if "16" in possible_values(settled, "train.precision") and not settled.on_gpu:
        raise PlanError("train.precision is 16, which needs a GPU; give bf16, 32 or auto")
    if True in possible_values(settled, "train.compile"):
        check_compiler(gpu=settled.on_gpu)
    _check_names(plan)
    notes += task_of(plan).check(settled, workers=given.workers)
    if plan.finals.ensemble and not isinstance(task_of(plan), Combines):
        raise PlanError(
            f"finals.ensemble is true, and the task {plan.task} can't make one model of several;"
            " leave it out"
        )
    if plan.train.sync_batchnorm and given.workers == 1:
        notes.append("train.sync_batchnorm changes nothing: each trial has one worker")
    if plan.tracking.watch and plan.tracking.wandb is None:
        notes.append("tracking.watch needs --wandb PROJECT: no gradients are recorded")
    return Forecast(
        plan=settled,
        share=given,
        gpu_bytes=least(nodes).gpu_bytes,
        free_bytes=shutil.disk_usage(nearest_folder(Path(plan.out))).free,
        notes=(*notes, *given.notes),
    )


def _check_gpu_memory(gpus: float, gpu_bytes: int) -> None:
    """Refuse a share of a GPU that holds no more than CUDA itself takes in each process."""
    if 0 < gpus < 1 and gpu_bytes and not allocator_share(gpus, gpu_bytes):
        raise ResourceError(
            f"--gpus-per-trial {gpus:g} of a GPU with {gpu_bytes / 1e9:.1f} GB is"
            f" {gpus * gpu_bytes / 1e9:.1f} GB, and CUDA itself takes about {CUDA_BYTES / 1e9:.1f}"
            " GB in each process; give a larger share"
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
    counts = {"num_samples": number_of_trials(plan), "grace_period": first_rung(plan)}
    search = plan.search.model_copy(update=counts)
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


def _check_names(plan: Plan) -> None:
    """The trials that the finals name can be there."""
    for name in plan.finals.trials:
        number = int(name[1:]) if re.fullmatch(r"t\d{4,8}", name) else 0
        if not 0 < number <= plan.search.num_samples:
            raise PlanError(
                f"finals.trials has {name!r}, and the search has {plan.search.num_samples} trials,"
                " from t0001 on; name some of these"
            )


def check_search(plan: Plan) -> list[str]:
    """Check what has nothing to do with resources, else a PlanError; notes on it."""
    search, epochs = plan.search, plan.train.max_epochs
    if not search.space:
        raise PlanError(
            "search.space is empty; give at least one field to search, as"
            " --set 'search.space.FIELD={choice: [A, B]}'"
        )
    notes, count = check_pair(plan), number_of_trials(plan)
    given = search.start_from
    if isinstance(given, list) and len(given) > count:
        raise PlanError(
            f"search.start_from has {len(given)} points, and there will be {count} trials; raise"
            " --num-samples, or leave points out"
        )
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
    if search.checkpoint_every_epochs > epochs:
        raise PlanError(
            f"search.checkpoint_every_epochs is {search.checkpoint_every_epochs}, above"
            f" train.max_epochs, which is {epochs}; lower it"
        )
    return notes


def has_own_code(plan: Plan) -> bool:
    """Whether trainings run code that a field names as `package.module:attribute`."""
    run = plan.as_values()
    words = [value for name in plan.sections() for value in run[name].values()]
    listed = [value for dimension in plan.search.parsed_space for value in dimension.values]
    own = (word for word in [plan.task, *words, *listed] if isinstance(word, str))
    return any(OWN_NAME.fullmatch(word) for word in own)


def check_waiting(plan: Plan) -> None:
    """A ResourceError without a cluster: a machine does not get more CPUs or GPUs."""
    if plan.resources.address is None:
        raise ResourceError(
            "--wait-for-resources waits until a cluster has room, and there is no --address; leave"
            " it out on a single machine"
        )
