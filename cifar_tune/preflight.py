"""Every check that can refuse a plan before anything starts, and the plan's forecast."""

from __future__ import annotations

import glob
import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cifar_tune.data as data_room
from cifar_tune.config import Plan
from cifar_tune.errors import PlanError, ResourceError, ResultsError
from cifar_tune.journal import FILE_NAME, LOCK_NAME, is_running, read_journal, way_back
from cifar_tune.machine import Machine, check_compiler, least, settle
from cifar_tune.models import check_model_name
from cifar_tune.pairs import check_pair, is_model_based
from cifar_tune.points import count_points, grid_points
from cifar_tune.resources import CLUSTER, HERE, Share, share_of
from cifar_tune.results import Results
from cifar_tune.rungs import expected_epochs, rung_epochs, rungs_below
from cifar_tune.spaces import SpaceError
from cifar_tune.start_from import check_number_of_points

DEFAULT_STEM = "asha"  # without a config, the plan is that of configs/asha.yaml


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
    _check_shares(plan, given.workers)
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
        free_bytes=shutil.disk_usage(_nearest_folder(Path(plan.out))).free,
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
            from cifar_tune.models import build_model

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


def results_folder(plan: Plan, config: str | None) -> Path:
    """Where a search's results go: its name, or the config's name and the next free number."""
    out = Path(plan.out)
    if plan.name is not None:
        return out / plan.name
    stem = _stem(config)
    taken = [_number(path.name, stem) for path in out.glob(f"{glob.escape(stem)}-*")]
    return out / f"{stem}-{max(taken, default=0) + 1}"


def _stem(config: str | None) -> str:
    return Path(config).stem if config else DEFAULT_STEM


def _number(name: str, stem: str) -> int:
    number = name.removeprefix(f"{stem}-")
    return int(number) if number.isdecimal() else 0


def unfinished_folder(plan: Plan, config: str | None) -> Path | None:
    """For a plan without a name: the newest search of its config, if it did not end.

    Raises:
        ResultsError, JournalError: its folder holds something, and no search that can be read.
    """
    if plan.name is not None:
        return None
    stem, following = _stem(config), results_folder(plan, config)
    newest = following.with_name(f"{stem}-{_number(following.name, stem) - 1}")
    if newest.is_dir() and not holds_search(newest):
        check_folder(newest)
    return newest if holds_search(newest) and not Results.read(newest).finished else None


def holds_search(folder: Path) -> bool:
    """Whether a search was begun in this folder: a crash may leave a journal with no whole line."""
    return (folder / FILE_NAME).is_file() and bool(read_journal(folder).events)


def check_folder(folder: Path) -> None:
    """Check that a new results folder can be made at this path, and leave nothing behind.

    Raises:
        ResultsError: the name is in use, or nothing can be written there.
    """
    if holds_search(folder):
        if is_running(folder):
            raise ResultsError(
                f"{folder} is in use by a search that is running; choose another --name, or wait;"
                f" if it is stopped: {way_back(folder)}"
            )
        raise ResultsError(
            f"{folder} holds a search already; go on with it: {way_back(folder)}, or"
            " choose another --name"
        )
    try:
        ours = {FILE_NAME, LOCK_NAME}  # what a start leaves that died before its first event
        if folder.exists() and not {path.name for path in folder.iterdir()} <= ours:
            raise ResultsError(f"{folder} exists and is not a search; choose another --name")
        nearest = _nearest_folder(folder)
        with tempfile.TemporaryFile(dir=nearest) as probe:
            probe.write(b"probe")
            probe.flush()
    except OSError as error:
        raise ResultsError(
            f"{folder} can't be written: {error.strerror}; choose another --out"
        ) from None


def _nearest_folder(path: Path) -> Path:
    """The path itself or its nearest parent that exists and is a folder."""
    try:
        for candidate in (path, *path.parents):
            if candidate.is_dir():
                return candidate
            if candidate.exists():
                raise ResultsError(f"{candidate} is a file, not a folder; choose another --out")
    except OSError as error:  # a name that is too long
        raise ResultsError(
            f"{path} can't be a folder: {error.strerror}; choose another --out"
        ) from None
    return Path("/")


def check_data(plan: Plan) -> str:
    """Check that the dataset is there, without decoding it; what it is, in a few words.

    Raises:
        DataError: it is missing or nothing that can be read.
    """
    return data_room.check(plan.data)


def check_sizes(plan: Plan, train_images: int) -> None:
    """Check that every batch size that can be drawn fits into the training images.

    Raises:
        PlanError: an epoch would have no step, which Lightning takes for a finished training.
    """
    sizes = _batch_sizes(plan)
    if plan.data.drop_last and max(sizes) > train_images:
        raise PlanError(
            f"data.batch_size can be {max(sizes)}, and there are {train_images} training images:"
            " with data.drop_last an epoch would have no step; use smaller batches"
        )


def _batch_sizes(plan: Plan) -> list[int]:
    """The batch sizes that can be drawn, or the bounds of their range."""
    sizes = [plan.data.batch_size]
    for dimension in plan.search.parsed_space:
        if dimension.field == "data.batch_size":
            listed = [int(v) for v in dimension.values if v is not None]
            drawn = listed or [int(dimension.low), int(dimension.high)]
            sizes = [*drawn, *(sizes if dimension.when else [])]
    return sizes


def _check_shares(plan: Plan, workers: int) -> None:
    """Every worker of a trial needs images of every batch."""
    for name, size in (("batch_size", min(_batch_sizes(plan))), ("val_size", plan.data.val_size)):
        if size < workers:
            raise PlanError(
                f"data.{name} can be {size}, shared by {workers} workers (--workers-per-trial); it"
                f" must be at least one image each: raise it, or pass {size} or fewer"
            )
