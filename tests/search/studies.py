"""Writes the events of a search by hand, as if trials ran, and tells them to an `OptunaStudy`."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from cifar_tune.plan.load import load_plan
from cifar_tune.plan.space import Value
from cifar_tune.record.journal import Journal, read_journal
from cifar_tune.record.recorder import Recorder
from cifar_tune.record.trials import id_of
from cifar_tune.search.bohb import BohbStudy
from cifar_tune.search.dashboard import FILE_NAME
from cifar_tune.search.study import OptunaStudy, sampler_of

Values = dict[str, Value]


class ToldSearch:
    """A search in `folder` whose journal is written by hand."""

    def __init__(
        self,
        folder: Path,
        *overrides: str,
        sampler: Callable[[int], BaseSampler] | None = None,
        known: Mapping[str, Any] | None = None,
        beside: Callable[[Values], dict[str, float]] = lambda _: {},
    ) -> None:
        """`beside` gives further figures of each report, by the trial's values."""
        self.folder = folder
        self.plan = load_plan(None, ["search.scheduler=none", "train.max_epochs=3", *overrides])
        folder.mkdir(exist_ok=True, parents=True)
        self.recorder = Recorder(Journal(folder))
        self._sampler, self._beside = sampler, beside
        self.epochs: dict[str, int] = {}
        self.study = self.told_again(folder)
        dumped = self.plan.model_dump(mode="json")
        self.write("search", version=1, plan=dumped, data={}, environment={})
        if known is not None:
            self.write("started_from", **known)

    def told_again(self, folder: Path) -> OptunaStudy:
        """A fresh study, told all that is recorded, with its file in `folder`."""
        folder.mkdir(exist_ok=True)
        kind = BohbStudy if self.plan.search.searcher == "bohb" else OptunaStudy
        study = kind(self.plan, folder, self._sampler or sampler_of(self.plan))
        for event in read_journal(self.recorder.journal.folder).events:
            study.observe(event, self.recorder.results)
        return study

    def restart(self) -> None:
        """Go on with a fresh study in the same folder, as the next start of the program does."""
        self.study = self.told_again(self.folder)

    def write(self, event: str, **values: Any) -> None:
        """Record one event and tell it."""
        self.recorder.write(event, **values)
        written = read_journal(self.folder).events[-1]
        self.study.observe(written, self.recorder.results)

    def suggest(self, fixed: Mapping[str, Value] | None = None) -> Values | None:
        """The values of the next trial."""
        return self.study.suggest(len(self.recorder.results.trials), fixed or {})

    def create(self, values: Values | None = None) -> str:
        """Create the next trial, with suggested values or these; its id."""
        index = len(self.recorder.results.trials)
        given = self.suggest() if values is None else values
        assert given is not None
        self.write("trial_created", trial_id=id_of(index), index=index, seed=index, values=given)
        self.write("trial_started", trial_id=id_of(index), start=1)
        self.epochs[id_of(index)] = 0
        return id_of(index)

    def values(self, trial_id: str) -> Values:
        """What a trial was created with."""
        return self.recorder.results.trials[trial_id].values

    def report(self, trial_id: str, accuracy: float, *, diverged: bool = False) -> None:
        """Report the trial's next epoch."""
        self.epochs[trial_id] += 1
        loss = 1e9 if diverged else 1.0 - accuracy
        metrics = {
            "epoch": self.epochs[trial_id], "val_accuracy": accuracy, "val_loss": loss,
            "first_step_at": 1.0, "reported_at": 1.0 + self.epochs[trial_id],
            **self._beside(self.values(trial_id)),
        }  # fmt: skip
        more = {"checkpoint": None, "done": diverged, "diverged": diverged}
        self.write("result", trial_id=trial_id, metrics=metrics, **more)

    def end(self, trial_id: str, status: str, reason: str = "") -> None:
        """End a trial."""
        self.write("trial_ended", trial_id=trial_id, status=status, reason=reason)

    def run(self, trial_id: str, *accuracies: float, status: str = "completed") -> None:
        """Report these accuracies and end the trial."""
        for accuracy in accuracies:
            self.report(trial_id, accuracy)
        if status == "diverged":
            self.report(trial_id, 0.0, diverged=True)
        self.end(trial_id, status, "" if status == "completed" else f"it was {status}")

    def complete(self, *accuracies: float, values: Values | None = None) -> str:
        """Create a trial that completes with these accuracies; its id."""
        trial_id = self.create(values)
        self.run(trial_id, *accuracies)
        return trial_id


def statuses_of_restarts(search: ToldSearch, trials: int, beside: Path) -> set[str]:
    """Run so many trials; a study that is told all anew, in `beside`, suggests each as well."""
    rng, running, statuses = random.Random(3), list[str](), set[str]()
    for index in range(trials):
        again = search.told_again(beside).suggest(index, {})
        name = search.create()
        assert again == search.values(name)
        running.append(name)
        while len(running) > 2:
            go_on(search, rng, running)
        statuses |= {trial.status for trial in search.recorder.results.trials.values()}
    return statuses


def shown(folder: Path) -> list[FrozenTrial]:
    """The trials in a study file, as another program reads them."""
    return shown_study(folder).get_trials()


def shown_study(folder: Path) -> optuna.Study:
    """The study in a study file, as another program reads it."""
    storage = JournalStorage(JournalFileBackend(str(folder / FILE_NAME)))
    return optuna.load_study(study_name=folder.name, storage=storage)


def accuracy_of(values: Mapping[str, Any]) -> float:
    """A smooth accuracy with its optimum at lr 0.1 and label smoothing 0.15."""
    away = math.log10(float(values.get("optim.lr", 0.1)) / 0.1)
    smooth = float(values.get("optim.label_smoothing", 0.15)) - 0.15
    return 0.9 - 0.1 * away**2 - 2 * smooth**2


def go_on(search: ToldSearch, rng: random.Random, running: list[str]) -> None:
    """Let one of the running trials report, crash, diverge, be stopped or complete."""
    name = rng.choice(running)
    epochs, accuracy = search.epochs[name] + 1, accuracy_of(search.values(name))
    fate = rng.random()
    if fate < 0.08:
        search.end(name, "failed", "it crashed")
    elif fate < 0.16:
        search.report(name, 0.0, diverged=True)
        search.end(name, "diverged", "loss was not finite")
    else:
        search.report(name, accuracy * epochs / 3)
        if epochs == 3:
            search.end(name, "completed")
        elif fate < 0.35:
            search.end(name, "stopped", "early stopping")
        else:
            return
    running.remove(name)
