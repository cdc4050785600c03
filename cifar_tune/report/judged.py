"""What each trial is judged by, also at equal length, and how much each searched field decides."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from cifar_tune.plan.space import Dimension, Value
from cifar_tune.record.optuna_trials import directions_of, optuna_trial, parameters_of
from cifar_tune.record.ranking import best_epoch
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial

ENOUGH = 30  # trials, or three in four of fewer, that must have reached a length to compare them at


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A trial and what it is judged by: an epoch, the metric there, and the fields that held."""

    trial: Trial
    epoch: int
    value: float
    fields: dict[str, Value]

    @property
    def name(self) -> str:
        """The trial's id."""
        return self.trial.trial_id


def judged_trials(results: Results) -> list[Judged]:
    """The trials that have an epoch to be judged by, in the order of suggestion."""
    search = results.plan.search
    return [_judged(trial, best_epoch(trial, search), results) for trial in _usable(results)]


def at_equal_length(results: Results) -> tuple[int, list[Judged]]:
    """The longest training that enough trials had, in epochs, and those judged by it.

    One that was stopped early has a worse figure than one that went on, whatever its fields: what
    compares fields takes of all the same epochs. Enough are 30, or three in four of fewer.

    Returns:
        The epochs, 0 without trials, and the trials that reached them in the order of suggestion.
    """
    trials = _usable(results)
    lengths = sorted((max(trial.judged) for trial in trials), reverse=True)
    if not lengths:
        return 0, []
    length = lengths[min(ENOUGH, math.ceil(0.75 * len(lengths))) - 1]
    return length, [
        _judged(trial, _best_up_to(length, trial, results), results)
        for trial in trials
        if max(trial.judged) >= length
    ]


def _usable(results: Results) -> list[Trial]:
    trials = sorted(results.trials.values(), key=lambda trial: trial.index)
    return [trial for trial in trials if trial.usable]


def _judged(trial: Trial, epoch: int, results: Results) -> Judged:
    value = trial.results[epoch][results.plan.search.metric]
    return Judged(trial=trial, epoch=epoch, value=value, fields=trial.values_at(epoch))


def _best_up_to(length: int, trial: Trial, results: Results) -> int:
    """The epoch that a trial would be judged by if it had ended after that many."""
    search = results.plan.search
    curve = {e: value for e, value in trial.curve(search.metric).items() if e <= length}
    if search.winner_by == "last":
        return max(curve)
    return max(curve, key=lambda epoch: (search.sign * curve[epoch], -epoch))


def varied(trials: Sequence[Judged], results: Results) -> list[Dimension]:
    """The searched fields of which the trials have at least two values."""
    seen: dict[str, set[Value]] = {}
    for trial in trials:
        for field, value in trial.fields.items():
            seen.setdefault(field, set()).add(value)
    return [one for one in results.plan.search.parsed_space if len(seen.get(one.field, ())) > 1]


def importances_of(trials: Sequence[Judged], results: Results) -> dict[str, float]:
    """How much each field that varies decides whether a trial is among the best, largest first.

    By PED-ANOVA, which goes by ranks; they add up to 1, or there are none.
    """
    search, fields = results.plan.search, {one.field for one in varied(trials, results)}
    parameters = parameters_of(search.parsed_space)
    names = {one.name: one.dimension.field for one in parameters if one.dimension.field in fields}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it tells of each study that is made
    try:
        study = optuna.create_study(direction=directions_of(search)[0])
    finally:
        optuna.logging.set_verbosity(verbosity)
    for one in trials:
        complete = TrialState.COMPLETE
        study.add_trial(optuna_trial(parameters, one.fields, complete, [one.value], {}, {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where the best tenth is a single trial
        evaluator = PedAnovaImportanceEvaluator()
        weights = get_param_importances(study, evaluator=evaluator, params=list(names))
    return {names[name]: weight for name, weight in weights.items()}
