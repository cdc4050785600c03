"""Trains given configurations with fresh seeds: a search of its own, without choice or stopping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cifar_tune.errors import JournalError, ResultsError
from cifar_tune.files import FINALS, is_whole, locate
from cifar_tune.finals.candidates import final_examples
from cifar_tune.finals.rounds import Round
from cifar_tune.plan.config import Plan
from cifar_tune.plan.space import Value
from cifar_tune.plan.task import task_of
from cifar_tune.record.journal import FILE_NAME, VERSION, Journal
from cifar_tune.record.ranking import best_epoch
from cifar_tune.record.recorder import Recorder
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial
from cifar_tune.search.checkpoints import drop_all
from cifar_tune.search.run import run_search
from cifar_tune.search.session import Session
from cifar_tune.search.stop import UNASKED, StopRequest

# The search's seeds begin at the plan's; it has ten million trials at most.
FRESH_SEEDS = {"confirm": 1_000_000_000, "final": 2_000_000_000}
SEEDS = 2**32 - 2**24  # seeds are below 2**32, and a training's index is added

Kind = Literal["confirm", "final"]


def retraining_plan(plan: Plan, kind: Kind, trainings: int, *, before: int = 0) -> Plan:
    """The plan of so many trainings to the full length, with seeds that the search never used.

    `before` trainings of this kind were planned earlier; their seeds are passed over.
    """
    search = plan.search.model_copy(
        update={
            "searcher": "random", "scheduler": "none", "num_samples": trainings,
            "start_from": None, "time_budget": None, "fail_fast": False, "objectives": [],
        }
    )  # fmt: skip
    seed = (plan.seed + FRESH_SEEDS[kind] + before) % SEEDS
    # What comes after these trainings, for whoever asks how long it will take.
    then = type(plan.finals)(candidates=1, seeds=plan.finals.seeds if kind == "confirm" else 0)
    return plan.model_copy(update={"search": search, "seed": seed, "finals": then})


@dataclass(frozen=True)
class Stage:
    """What the stages of the finals of one search share: how they train, and where.

    The search has a winner with a checkpoint; `stop` gets the signal that interrupts the finals.
    """

    session: Session
    stop: StopRequest

    @property
    def interrupted(self) -> bool:
        """Whether a signal came; what else stops a search is no reason to stop its finals."""
        return self.stop.signal is not None

    def folder(self, kind: Kind, number: int) -> Path:
        """Where the trainings of a round lie."""
        return self.session.folder / FINALS / f"{kind}-{number}"

    def retrain(
        self, kind: Kind, current: Round, points: Sequence[dict[str, Value]], *, before: int
    ) -> Results | None:
        """Train each of the points, or go on with it, each with a seed of its own.

        Args:
            kind: `confirm` on the data of the search, `final` on all but the test split.
            current: the round; its folder gets a journal of its own, and `ray/`.
            points: a value for each searched field.
            before: trainings of this kind that were planned in earlier rounds.

        Returns:
            The trainings as a search's trials, all ended; none if this was interrupted.

        Raises:
            StorageError: the journal can't be written.
            ResultsError: the journal or a checkpoint that is needed is damaged or gone.
        """
        if self.interrupted:
            return None
        folder = self.folder(kind, current.number)
        folder.mkdir(parents=True, exist_ok=True)
        plan = retraining_plan(self.session.plan, kind, len(points), before=before)
        with _journal(folder) as journal:
            recorder = Recorder(journal)
            if not recorder.results.events:
                values, data = plan.model_dump(mode="json"), _facts(self.session.results.data, kind)
                recorder.write("search", version=VERSION, plan=values, data=data, environment={})
            if recorder.results.started_from is None:
                recorder.write("started_from", source="finals", points=list(points), trials=[])
            recorder.results.plan = plan
            names = _names(current, points, before)
            part = self.session.data.part("search" if kind == "confirm" else "final")
            if not self._run(recorder, part, names):
                return None
            _check_checkpoints(recorder.results)
            self._say_lost(recorder.results, names)
            return recorder.results

    def _run(self, recorder: Recorder, part: Any, names: Sequence[str]) -> bool:
        """Whether all trainings have ended."""
        with self.session.watch(recorder, recorder.journal.folder.name, names):
            stop = run_search(replace(self.session, recorder=recorder), part)
        if stop.reason is None and recorder.results.unfinished():
            stop.ask(UNASKED)
        if stop.reason is not None:
            self.stop.signal, self.stop.reason = stop.signal, stop.reason
            return False
        if not recorder.results.finished:
            recorder.write("finished")
        return True

    def _say_lost(self, trainings: Results, names: Sequence[str]) -> None:
        counts, wanted = trainings.counts(), trainings.plan.search.num_samples
        if counts["completed"] < wanted:
            lost = next(t for t in trainings.trials.values() if t.status != "completed")
            self.session.say(
                f"{counts['failed']} of {wanted} trainings failed and {counts['diverged']}"
                f" diverged (the first: {names[lost.index]}: {lost.reason})"
            )

    def drop_checkpoints(self, kind: Kind, current: Round) -> None:
        """What the stage came to is recorded: its checkpoints are not needed any more."""
        for one in (current, *current.earlier(self.session.results)):
            folder = self.folder(kind, one.number)
            if (folder / FILE_NAME).is_file():  # a round may add no training
                drop_all(Results.read(folder))


def _facts(facts: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """What the trainings' journal says of their data."""
    if kind == "confirm":
        return facts
    return {**facts, "train": final_examples(facts)}


def _names(current: Round, points: Sequence[dict[str, Value]], before: int) -> list[str]:
    """What trainings are called: the trial whose configuration each has, and which seed it is."""
    ids = [
        next(one.trial_id for one in current.candidates if one.values == point) for point in points
    ]
    turn = len(set(ids))  # candidates take turns
    return [f"{name} seed {(before + index) // turn + 1}" for index, name in enumerate(ids)]


def _journal(folder: Path) -> Journal:
    try:
        return Journal(folder)
    except JournalError as error:
        raise JournalError(f"{error}; or {_repeated(folder)}") from None


def _check_checkpoints(trainings: Results) -> None:
    for trial in trainings.trials.values():
        checkpoint = model_of(trainings, trial)
        if trial.status == "completed" and not is_whole(checkpoint):
            again = _repeated(trainings.folder)
            raise ResultsError(f"{checkpoint} is damaged or gone; put it back, or {again}")


def _repeated(folder: Path) -> str:
    return f"move {folder} away and go on: its trainings are then repeated"


def model_of(trainings: Results, trial: Trial) -> str:
    """Path or URI of the checkpoint that is a completed training's model."""
    plan = trainings.plan
    epoch = best_epoch(trial, plan.search) if task_of(plan).keeps_best else trial.epochs
    return locate(trainings.folder, trial.checkpoints.get(epoch, "no checkpoint"))
