"""What "best" means: the epoch that a trial is judged by, and which trial is better."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from cifar_tune.plan.config import Plan, SearchConfig
from cifar_tune.plan.task import task_of
from cifar_tune.record.trials import ENDED, Trial

Rank = tuple[()] | tuple[float, float, int]  # the empty one is below all others


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


@dataclass
class Leader:
    """The best of some trials so far: looking at all at each report would be quadratic."""

    trial: Trial | None = None
    _rank: Rank = ()

    def update(self, trials: Iterable[Trial], plan: Plan, changed: Trial) -> None:
        """Compare one of the trials with the leader."""
        rank = rank_of(changed, plan) if changed.usable else ()
        if changed is self.trial and rank < self._rank:  # it failed, or got worse
            self.find(trials, plan)
        elif rank and rank >= self._rank:
            self.trial, self._rank = changed, rank

    def find(self, trials: Iterable[Trial], plan: Plan) -> None:
        self.trial = pick_best(trials, plan)
        self._rank = () if self.trial is None else rank_of(self.trial, plan)


@dataclass
class Leaders:
    """The best trial, and the best of those that ended."""

    of_all: Leader = field(default_factory=Leader)
    ended: Leader = field(default_factory=Leader)

    def update(self, trials: Collection[Trial], plan: Plan, changed: Trial | None = None) -> None:
        """Look at the trial that changed; at all where any may be usable now, or not ended."""
        ended = (trial for trial in trials if trial.status in ENDED)
        if changed is None:
            self.of_all.find(trials, plan)
            self.ended.find(ended, plan)
            return
        self.of_all.update(trials, plan, changed)
        if changed.status in ENDED:
            self.ended.update(ended, plan, changed)
