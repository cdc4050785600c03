"""What "best" means: the epoch that a trial is judged by, and which trial is better."""

from __future__ import annotations

from collections.abc import Iterable

from cifar_tune.plan.config import Plan, SearchConfig
from cifar_tune.plan.task import task_of
from cifar_tune.record.trials import Trial

Rank = tuple[float, float, int]


def best_epoch(trial: Trial, search: SearchConfig) -> int:
    """The epoch that a trial is judged by: its best, the earliest of equals, or its last."""
    epochs = trial.judged or list(trial.results)
    curve = trial.curve(search.metric)
    known = curve.keys() & epochs
    if search.winner_by == "last" or not known:  # it diverged in the first
        return max(epochs)
    return max(known, key=lambda epoch: (search.sign * curve[epoch], -epoch))


def pick_best(trials: Iterable[Trial], plan: Plan) -> Trial | None:
    """The best usable trial by the plan's metric, or none."""
    return next(iter(ranked(trials, plan)), None)


def ranked(trials: Iterable[Trial], plan: Plan) -> list[Trial]:
    """The usable trials, best first."""
    usable = (trial for trial in trials if trial.usable)
    return sorted(usable, key=lambda trial: rank_of(trial, plan), reverse=True)


def rank_of(trial: Trial, plan: Plan) -> Rank:
    """What a usable trial is compared by: higher is better; loss and age tell equals apart."""
    metrics = trial.results[best_epoch(trial, plan.search)]
    loss = metrics.get(task_of(plan).main_loss, 0.0)
    return plan.search.sign * metrics[plan.search.metric], -loss, -trial.index
