"""Several aims: what a trial came to in each, and the trials that none is better than in all."""

from __future__ import annotations

from collections.abc import Sequence

from cifar_tune.plan.config import SearchConfig
from cifar_tune.plan.objectives import TRAIN_SECONDS, Goal
from cifar_tune.record.ranking import best_epoch, ranked
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial


def value_of(trial: Trial, goal: Goal, search: SearchConfig) -> float | None:
    """What a usable trial came to, in the epoch that it is judged by; none: it is not known."""
    figures = trial.results[best_epoch(trial, search)]
    if goal.metric in figures:
        return figures[goal.metric]
    if goal.metric == TRAIN_SECONDS:
        return trial.busy_seconds
    return trial.measured.get(goal.metric)


def values_of(trial: Trial, search: SearchConfig, goals: Sequence[Goal]) -> list[float] | None:
    """What a usable trial came to by each goal; none where one is not known."""
    values = [value_of(trial, goal, search) for goal in goals]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def comparable(results: Results) -> dict[str, list[float]]:
    """What the trials that ran to their end came to by each objective, the best first.

    One that was stopped early has seen less than these: less time, and a worse metric.
    """
    plan = results.plan
    ended = [one for one in ranked(results.trials.values(), plan) if one.status == "completed"]
    known = {one.trial_id: values_of(one, plan.search, plan.search.goals) for one in ended}
    return {name: values for name, values in known.items() if values is not None}


def front(results: Results) -> dict[str, list[float]]:
    """Those of the comparable trials that no other is at least as good as in all objectives and
    better in one (the Pareto front); the best by the first objective first."""
    signs = [goal.sign for goal in results.plan.search.goals]
    known = comparable(results)
    gains = {
        name: [sign * value for sign, value in zip(signs, values, strict=True)]
        for name, values in known.items()
    }
    best = dict[str, list[float]]()
    for name, own in sorted(gains.items(), key=lambda one: one[1], reverse=True):
        # Who is better in one and as good in all stands before, and so does one of the front.
        if not any(_dominates(other, own) for other in best.values()):
            best[name] = own
    return {name: values for name, values in known.items() if name in best}


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))
