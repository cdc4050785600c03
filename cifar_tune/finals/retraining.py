"""Trains given configurations with fresh seeds: a search of its own, without choice or stopping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cifar_tune.errors import JournalError, ResultsError
from cifar_tune.files import is_whole, locate
from cifar_tune.plan.config import Plan
from cifar_tune.plan.space import Value
from cifar_tune.record.journal import VERSION, Journal
from cifar_tune.record.results import Recorder, Results
from cifar_tune.record.trials import Trial
from cifar_tune.search.run import run_search
from cifar_tune.search.session import Session
from cifar_tune.search.stop import StopRequest

# The search's seeds begin at the plan's; it has ten million trials at most.
FRESH_SEEDS = {"confirm": 1_000_000_000, "final": 2_000_000_000}
SEEDS = 2**32 - 2**24  # seeds are below 2**32, and a training's index is added


def retraining_plan(plan: Plan, stage: str, trainings: int) -> Plan:
    """The plan of so many trainings to the full length, with seeds that the search never used."""
    search = plan.search.model_copy(
        update={
            "searcher": "random", "scheduler": "none", "num_samples": trainings,
            "start_from": None, "time_budget": None, "fail_fast": False,
        }
    )  # fmt: skip
    seed = (plan.seed + FRESH_SEEDS[stage]) % SEEDS
    return plan.model_copy(
        update={"search": search, "seed": seed, "finals": type(plan.finals)(seeds=0)}
    )


def retrain(
    session: Session,
    folder: Path,
    plan: Plan,
    points: Sequence[dict[str, Value]],
    part: Any,
    described: dict[str, Any],
) -> tuple[Results, StopRequest]:
    """Train each of the points, or go on with it; number i has point i and seed `plan.seed + i`.

    Args:
        session: of the search whose finals they are.
        folder: gets a journal of its own, and `ray/` with the checkpoints.
        plan: as `retraining_plan` gives it.
        points: a value for each searched field.
        part: of the data: what they train on.
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
        stage = replace(session, recorder=recorder)
        with session.watch(recorder, folder.name):
            stop = run_search(stage, part)
        if stop.reason is None and recorder.results.unfinished():
            stop.ask("Ray, without a reason")
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
