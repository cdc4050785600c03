"""A search's trials in Optuna's words: parameters, state, value and intermediate values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from cifar_tune.plan.config import SearchConfig
from cifar_tune.plan.objectives import LATENCY, Goal
from cifar_tune.plan.space import FRACTIONS, LISTS, Dimension, Space, Value
from cifar_tune.record.front import values_of
from cifar_tune.record.journal import Event
from cifar_tune.record.trials import Trial


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A searched field as Optuna has it: its name there, and the distribution of its values.

    A power of two is the exponent there, so that a sampler sees that 8 lies between 4 and 16.
    """

    dimension: Dimension
    name: str
    distribution: BaseDistribution

    def encode(self, value: Any) -> Any:
        """Optuna's value of a value of the field."""
        if self.dimension.kind == "pow2":
            return value.bit_length() - 1
        return float(value) if self.dimension.kind in FRACTIONS else value

    def decode(self, given: Any) -> Any:
        """The field's value, in plain Python, of Optuna's value."""
        dimension = self.dimension
        if dimension.kind in LISTS:
            return given
        if dimension.kind == "pow2":
            return 2 ** int(given)
        if dimension.kind in FRACTIONS:
            # exp(log(x)) may miss a bound by one ulp
            return min(max(float(given), float(dimension.low)), float(dimension.high))
        return int(given)


def parameters_of(space: Space) -> tuple[Parameter, ...]:
    """The parameters of a space, parents before children."""
    return tuple(
        Parameter(
            dimension=one,
            name=f"log2({one.field})" if one.kind == "pow2" else one.field,
            distribution=_distribution(one),
        )
        for one in space
    )


def _distribution(dimension: Dimension) -> BaseDistribution:
    low, high, log = dimension.low, dimension.high, dimension.kind in ("loguniform", "logint")
    if dimension.kind in LISTS:
        return CategoricalDistribution(dimension.values)
    if dimension.kind == "pow2":
        return IntDistribution(int(low).bit_length() - 1, int(high).bit_length() - 1)
    if dimension.kind in FRACTIONS:
        return FloatDistribution(low, high, log=log)
    return IntDistribution(int(low), int(high), log=log)


def learnt_goals(search: SearchConfig) -> list[Goal]:
    """What a searcher learns from: all objectives but what is measured after the search."""
    return [goal for goal in search.goals if goal.metric != LATENCY]


def directions_of(search: SearchConfig) -> list[StudyDirection]:
    """Whether the study's values are to be large or small, the metric's first."""
    larger, smaller = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
    return [larger if goal.mode == "max" else smaller for goal in learnt_goals(search)]


def state_of(trial: Trial) -> TrialState:
    """Optuna's state of a trial; one that diverged was cut off, as one that was stopped early."""
    if trial.status == "completed":
        return TrialState.COMPLETE
    if trial.status in ("stopped", "diverged"):
        return TrialState.PRUNED
    return TrialState.FAIL if trial.status == "failed" else TrialState.RUNNING


def judged_as(trial: Trial, search: SearchConfig) -> tuple[TrialState, list[float] | None]:
    """Optuna's state of a trial, and its values: our judgement, or of a pruned one its newest
    report.

    With several objectives a pruned one has none, for what it cost so far can't be compared; one
    that completed without a figure for each of them has failed.
    """
    state, steps, goals = state_of(trial), trial.curve(search.metric), learnt_goals(search)
    if state is TrialState.COMPLETE:
        values = values_of(trial, search, goals)
        return (TrialState.FAIL if values is None else state), values
    shown = state is TrialState.PRUNED and steps and len(goals) == 1
    return state, [steps[max(steps)]] if shown else None


def optuna_trial(
    parameters: Iterable[Parameter],
    values: Mapping[str, Value],
    state: TrialState,
    objectives: Sequence[float] | None,
    steps: Mapping[int, float],
    user_attrs: Mapping[str, Any],
) -> FrozenTrial:
    given = [parameter for parameter in parameters if parameter.dimension.field in values]
    return create_trial(
        state=state,
        values=objectives,
        params={one.name: one.encode(values[one.dimension.field]) for one in given},
        distributions={one.name: one.distribution for one in given},
        intermediate_values=dict(steps),
        user_attrs=dict(user_attrs),
    )


def earlier_trials(started_from: Event | None, metric: str) -> list[Trial]:
    """The trials of the search that this one started from, if it did, with one figure each."""
    if started_from is None:
        return []
    return [
        Trial(
            trial_id="",
            index=index,
            seed=0,
            values=told["values"],
            created=started_from["time"],
            status=told["status"],
            results={int(epoch): {metric: value} for epoch, value in told["results"]},
        )
        for index, told in enumerate(started_from["trials"])
    ]
