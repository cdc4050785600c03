"""The trials of a search as an Optuna study in memory, for Optuna's plots and importances."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.trial import TrialState

from cifar_tune.record.optuna_trials import (
    Parameter,
    direction_of,
    optuna_trial,
    parameters_of,
    steps_of,
)
from cifar_tune.record.ranking import best_epoch
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial

# What a diverged trial reports in place of its loss; no finite loss comes near.
STAND_IN_LOSS = 1e9


def curve_of(trial: Trial, metric: str) -> dict[int, float]:
    """The metric by epoch, ascending, without the stand-in of a trial that diverged."""
    steps = sorted(steps_of(trial, metric).items())
    return {epoch: value for epoch, value in steps if abs(value) < STAND_IN_LOSS}


def judged_trials(results: Results) -> list[Trial]:
    """The trials that have an epoch to be judged by, in the order of suggestion."""
    trials = sorted(results.trials.values(), key=lambda trial: trial.index)
    return [trial for trial in trials if trial.usable]


def value_of(trial: Trial, results: Results) -> float:
    """The metric at the epoch that a trial is judged by."""
    search = results.plan.search
    return trial.results[best_epoch(trial, search)][search.metric]


def study_of(results: Results) -> optuna.Study:
    """The judged trials, each with the value and the fields of the epoch that it is judged by.

    All count as complete. Optuna's plots and importances leave out what is pruned, and with early
    stopping most trials are; one that was stopped was worse than those that went on, and to know
    that is what the plots and a method that goes by ranks (PED-ANOVA) need.
    """
    search = results.plan.search
    parameters = parameters_of(search.parsed_space)
    with _quiet():
        study = optuna.create_study(direction=direction_of(search))
        for trial in judged_trials(results):
            values = trial.values_at(best_epoch(trial, search))
            value = value_of(trial, results)
            study.add_trial(optuna_trial(parameters, values, TrialState.COMPLETE, value, {}, {}))
    return study


def varied(study: optuna.Study, results: Results) -> list[Parameter]:
    """The parameters of which the study has seen at least two values."""
    seen: dict[str, set[object]] = {}
    for trial in study.get_trials(deepcopy=False):
        for name, value in trial.params.items():
            seen.setdefault(name, set()).add(value)
    parameters = parameters_of(results.plan.search.parsed_space)
    return [one for one in parameters if len(seen.get(one.name, ())) > 1]


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna tells of each study that is made."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
