"""Trains given configurations with fresh seeds: a search of its own, without choice or stopping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cifar_tune.errors import JournalError, ResultsError
from cifar_tune.files import is_whole, locate
from cifar_tune.plan.config import Plan
from cifar_tune.plan.space import Value
from cifar_tune.plan.task import Facts
from cifar_tune.record.journal import VERSION, Journal
from cifar_tune.record.results import Recorder, Results
from cifar_tune.record.trials import Trial
from cifar_tune.search.run import run_search
from cifar_tune.search.session import Session
from cifar_tune.search.stop import StopRequest

# The search's seeds begin at the plan's; it has ten million trials at most.
FRESH_SEEDS = {"confirm": 1_000_000_000, "final": 2_000_000_000}
SEEDS = 2**32 - 2**24  # seeds are below 2**32, and a training's index is added


def retraining_plan(plan: Plan, stage: str, trainings: int, *, before: int = 0) -> Plan:
    """The plan of so many trainings to the full length, with seeds that the search never used.

    `before` trainings of this stage were planned earlier; their seeds are passed over.
    """
    search = plan.search.model_copy(
        update={
            "searcher": "random", "scheduler": "none", "num_samples": trainings,
            "start_from": None, "time_budget": None, "fail_fast": False,
        }
    )  # fmt: skip
    seed = (plan.seed + FRESH_SEEDS[stage] + before) % SEEDS
    none = type(plan.finals)(seeds=0)
    return plan.model_copy(update={"search": search, "seed": seed, "finals": none})


@dataclass(frozen=True)
class Stage:
    """What the stages of the finals of one search share, and how each of them trains.

    Attributes:
        session: of the search, which has a winner with a checkpoint.
        stop: gets the signal that interrupts the finals.
    """

    session: Session
    stop: StopRequest

    @property
    def plan(self) -> Plan:
        """Of the search."""
        return self.session.plan

    @property
    def recorder(self) -> Recorder:
        """Of the search."""
        return self.session.recorder

    def say(self, line: str) -> None:
        """Show a line."""
        self.session.say(line)

    @property
    def results(self) -> Results:
        """The search."""
        return self.session.results

    @property
    def interrupted(self) -> bool:
        """Whether a signal came; what else stops a search is no reason to stop its finals."""
        return self.stop.signal is not None

    def retrain(
        self, folder: Path, plan: Plan, points: Sequence[dict[str, Value]], part: Any, facts: Facts
    ) -> Results | None:
        """Train each of the points, or go on with it; number i has seed `plan.seed + i`.

        Args:
            folder: gets a journal of its own, and `ray/` with the checkpoints.
            plan: as `retraining_plan` gives it.
            points: a value for each searched field.
            part: of the data: what they train on.
            facts: of the data, for the journal.

        Returns:
            The trainings as a search's trials, all ended; none if this was interrupted.

        Raises:
            StorageError: the journal can't be written.
            ResultsError: the journal or a checkpoint that is needed is damaged or gone.
        """
        if self.interrupted:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        with _journal(folder) as journal:
            recorder = Recorder(journal)
            if not recorder.results.events:
                recorder.write(
                    "search",
                    version=VERSION,
                    plan=plan.model_dump(mode="json"),
                    data=dict(facts),
                    environment={},
                )
            if recorder.results.started_from is None:
                recorder.write("started_from", source="finals", points=list(points), trials=[])
            recorder.results.plan = plan
            if not self._run(recorder, part):
                return None
            trainings = recorder.results
            _check_checkpoints(trainings)
        counts = trainings.counts()
        if counts["completed"] < len(points):
            lost = next(t for t in trainings.trials.values() if t.status != "completed")
            self.say(
                f"{counts['failed']} of {len(points)} trainings failed and {counts['diverged']}"
                f" diverged (the first: {lost.trial_id} of {folder.name}: {lost.reason})"
            )
        return trainings

    def _run(self, recorder: Recorder, part: Any) -> bool:
        """Whether all trainings have ended."""
        stage = replace(self.session, recorder=recorder)
        with self.session.watch(recorder, stage.folder.name):
            stop = run_search(stage, part)
        if stop.reason is None and recorder.results.unfinished():
            stop.ask("Ray, without a reason")
        if stop.reason is not None:
            self.stop.signal, self.stop.reason = stop.signal, stop.reason
            return False
        if not recorder.results.finished:
            recorder.write("finished")
        return True


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
