"""The study file that optuna-dashboard shows: a picture of the search, drawn from its events."""

from __future__ import annotations

import errno
import json
import logging
import os
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from cifar_tune.plan.config import Plan
from cifar_tune.record.journal import FILE_NAME as JOURNAL_NAME
from cifar_tune.record.journal import Event
from cifar_tune.record.optuna_trials import (
    directions_of,
    earlier_trials,
    judged_as,
    learnt_goals,
    optuna_trial,
    parameters_of,
)
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial

log = logging.getLogger(__name__)

FILE_NAME = "study.log"


class _UnlockedFile(JournalFileBackend):
    """Optuna's journal, written without lock and fsync.

    Each append is one write at the file's end, which needs no lock; so none is left behind by a
    killed process, and none of the dashboard's holds up the search. And no crash can cost anything:
    every start draws the file anew. A report takes 0.07 ms instead of 0.42.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write operations of the storage, a line each."""
        lines = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in logs).encode()
        with self._path.open("ab", buffering=0) as file:
            if file.write(lines) != len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class StudyFile:
    """Keeps the study file up to date, one Optuna trial for each trial; nothing is read from it.

    A fault of the file costs the picture, not the search.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        """Remove what an earlier start has left; the first event told draws the file anew."""
        self._search = plan.search
        self._parameters = parameters_of(plan.search.parsed_space)
        self._path = folder / FILE_NAME
        self._begun = False
        self._storage: JournalStorage  # of what was begun, as is the study
        self._study_id: int
        self._drawn: dict[str, tuple[int, TrialState]] = {}  # by our trial id: Optuna's, and state
        self._off = False
        # Optuna tells its users of each trial, on stderr.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            # A dashboard that was killed while it wrote has left its lock.
            for path in (self._path, *folder.glob(f"{FILE_NAME}.lock*")):
                path.unlink(missing_ok=True)
        except OSError as error:
            self._give_up(error)

    def observe(self, event: Event, results: Results) -> None:
        """Draw what an event has changed; of events told again at a start only the last counts."""
        if self._off or event["seq"] < results.events:
            return
        try:
            if not self._begun:
                self._begin(results)
            elif event["event"] == "started_from":
                self._add_earlier(results)
            elif event["event"] == "extended":
                self._describe(results.plan)
                for trial in results.trials.values():
                    self._update(trial)
            elif "trial_id" in event:
                self._update(results.trials[event["trial_id"]], event)
        except Exception as error:  # the file may be damaged in any way while it is written
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._off = True
        log.warning(
            "%s is not kept up to date from here on, and the search goes on without it: %s",
            self._path, error,
        )  # fmt: skip

    def _begin(self, results: Results) -> None:
        name, self._begun = self._path.parent.name, True
        self._storage = storage = JournalStorage(_UnlockedFile(self._path))
        directions = directions_of(self._search)
        study = optuna.create_study(storage=storage, study_name=name, directions=directions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([goal.metric for goal in learnt_goals(self._search)])
        self._study_id = storage.get_study_id_from_name(name)
        self._describe(results.plan)
        self._add_earlier(results)
        for trial in results.trials.values():
            self._add(trial)

    def _add_earlier(self, results: Results) -> None:
        """Add the trials of the search that this one started from, if it did."""
        started_from = results.started_from or {}
        for trial in earlier_trials(results.started_from, self._search.metric):
            attributes = {"from": started_from["source"], **trial.values}
            self._storage.create_new_trial(self._study_id, self._frozen(trial, attributes))

    def _describe(self, plan: Plan) -> None:
        for key, value in {
            "searcher": plan.search.searcher,
            "scheduler": plan.search.scheduler,
            "judged by": f"{plan.search.winner_by} epoch",
            "trials": plan.search.num_samples,
            "epochs": plan.train.max_epochs,
            "seed": plan.seed,
            "record": f"{JOURNAL_NAME}; this study is drawn from it anew at each start",
        }.items():
            self._storage.set_study_user_attr(self._study_id, key, value)

    def _add(self, trial: Trial, **attributes: Any) -> None:
        attributes = {"trial_id": trial.trial_id, **trial.values, **attributes, **_end(trial)}
        frozen = self._frozen(trial, attributes)
        optuna_id = self._storage.create_new_trial(self._study_id, frozen)
        self._drawn[trial.trial_id] = optuna_id, frozen.state

    def _frozen(self, trial: Trial, attributes: dict[str, Any]) -> FrozenTrial:
        frozen = optuna_trial(
            self._parameters,
            trial.values,
            *judged_as(trial, self._search),
            trial.curve(self._search.metric),
            attributes,
        )
        frozen.datetime_start = datetime.fromtimestamp(trial.created)
        if frozen.state.is_finished():
            frozen.datetime_complete = datetime.fromtimestamp(trial.ended or trial.created)
        return frozen

    def _update(self, trial: Trial, event: Event | None = None) -> None:
        """Draw what is new of a trial.

        One that goes on after its end, or ended otherwise, is added once more: Optuna can't reopen
        its own.
        """
        state, _ = judged_as(trial, self._search)
        optuna_id, drawn = self._drawn.get(trial.trial_id, (0, None))
        if drawn is None:
            self._add(trial)
        elif drawn.is_finished():
            if drawn is not state:
                self._add(trial, continues="an earlier trial of the same trial_id")
        else:
            if event is not None and event["event"] == "result" and not event["diverged"]:
                metrics = event["metrics"]
                epoch, value = metrics["epoch"], metrics[self._search.metric]
                self._storage.set_trial_intermediate_value(optuna_id, epoch, value)
            if state is not TrialState.RUNNING:  # an interrupted one goes on
                self._close(optuna_id, trial)

    def _close(self, optuna_id: int, trial: Trial) -> None:
        state, values = judged_as(trial, self._search)
        for key, word in _end(trial).items():
            self._storage.set_trial_user_attr(optuna_id, key, word)
        self._storage.set_trial_state_values(optuna_id, state, values)
        self._drawn[trial.trial_id] = optuna_id, state


def _end(trial: Trial) -> dict[str, str]:
    """How a trial ended, where its state does not say it all."""
    if trial.status not in ("stopped", "diverged", "failed"):
        return {}
    return {"status": trial.status, **({"reason": trial.reason} if trial.reason else {})}
