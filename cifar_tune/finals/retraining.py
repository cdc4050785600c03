"""Trains given configurations with fresh seeds: a search of its own, without choice or stopping."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_tune.errors import JournalError, ResultsError
from cifar_tune.files import is_whole, locate
from cifar_tune.plan.config import FinalsConfig, Plan
from cifar_tune.plan.machine import Machine, Share
from cifar_tune.plan.space import Value
from cifar_tune.record.journal import VERSION, Journal
from cifar_tune.record.results import Recorder, Results
from cifar_tune.record.trials import Trial
from cifar_tune.search.run import run_search
from cifar_tune.search.stop import UNASKED, StopRequest
from cifar_tune.search.trainable import Objective
from cifar_tune.vision.data import SearchData

# The search's seeds begin at the plan's; it has ten million trials at most.
FRESH_SEEDS = {"confirm": 1_000_000_000, "final": 2_000_000_000}
SEEDS = 2**32 - 2**24  # seeds are below 2**32, and a training's index is added


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """Where and how trainings run.

    Attributes:
        machine, share: where, and what each training gets.
        objective: what trains.
        ray_scope: Ray starts in it when it is needed, and ends with it.
        resume_command: shown when a second signal ends the program at once.
        watch: shows what a recorder writes, under a title, while its context lasts.
    """

    machine: Machine
    share: Share
    objective: Objective
    ray_scope: ExitStack
    resume_command: str
    watch: Callable[[Recorder, str], AbstractContextManager[None]]


def retraining_plan(plan: Plan, stage: str, trainings: int) -> Plan:
    """The plan of so many trainings to the full length, with seeds that the search never used."""
    search = plan.search.model_copy(
        update={
            "searcher": "random", "scheduler": "none", "num_samples": trainings,
            "start_from": None, "time_budget": None, "fail_fast": False,
        }
    )  # fmt: skip
    seed = (plan.seed + FRESH_SEEDS[stage]) % SEEDS
    return plan.model_copy(update={"search": search, "seed": seed, "finals": FinalsConfig(seeds=0)})


def retrain(
    place: Workplace,
    folder: Path,
    plan: Plan,
    points: Sequence[dict[str, Value]],
    data: SearchData,
    described: dict[str, Any],
) -> tuple[Results, StopRequest]:
    """Train each of the points, or go on with it; number i has point i and seed `plan.seed + i`.

    Args:
        place: where they run.
        folder: gets a journal of its own, and `ray/` with the checkpoints.
        plan: as `retraining_plan` gives it.
        points: a value for each searched field.
        data: what they train on.
        described: the data, for the journal.

    Returns:
        The trainings as a search's trials, and what stopped them, if anything did.

    Raises:
        StorageError: the journal can't be written.
        ResultsError: the journal or a checkpoint that is needed is damaged or gone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _journal(folder) as journal:
        recorder = Recorder(journal)
        if not recorder.results.events:
            values = plan.model_dump(mode="json")
            recorder.write("search", version=VERSION, plan=values, data=described, environment={})
        if recorder.results.started_from is None:
            recorder.write("started_from", source="finals", points=list(points), trials=[])
        recorder.results.plan = plan
        with place.watch(recorder, folder.name):
            stop = run_search(
                recorder,
                data,
                place.machine,
                place.share,
                objective=place.objective,
                resume_command=place.resume_command,
                ray_scope=place.ray_scope,
            )
        if stop.reason is None and recorder.results.unfinished():
            stop.ask(UNASKED)
        if stop.reason is None and not recorder.results.finished:
            recorder.write("finished")
        _check_checkpoints(recorder.results)
        return recorder.results, stop


@contextmanager
def _journal(folder: Path) -> Iterator[Journal]:
    try:
        journal = Journal(folder)
    except JournalError as error:
        raise JournalError(f"{error}; or {_repeated(folder)}") from None
    with journal:
        yield journal


def _check_checkpoints(trainings: Results) -> None:
    for trial in trainings.trials.values():
        if trial.status == "completed" and not is_whole(newest_checkpoint(trainings, trial)):
            raise ResultsError(
                f"{newest_checkpoint(trainings, trial)} is damaged or gone; put it back, or"
                f" {_repeated(trainings.folder)}"
            )


def _repeated(folder: Path) -> str:
    return f"move {folder} away and go on: its trainings are then repeated"


def newest_checkpoint(trainings: Results, trial: Trial) -> str:
    """Path or URI of the last epoch of a completed training."""
    return locate(trainings.folder, trial.checkpoints.get(trial.epochs, "no checkpoint"))
