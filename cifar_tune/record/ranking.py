"""What "best" means: the epoch that a trial is judged by, and which trial is better."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from cifar_tune.plan.config import Plan, SearchConfig
from cifar_tune.plan.task import task_of
from cifar_tune.record.trials import ENDED, Trial

Rank = tuple[float, float, int]
Leader = tuple[Rank, Trial]  # how good it was when last looked at


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
class Leaders:
    """The best trial so far, and the best of those that ended."""

    _leader: Leader | None = None
    _ended: Leader | None = None

    @property
    def best(self) -> Trial | None:
        """The winner by validation so far, or none."""
        return None if self._leader is None else self._leader[1]

    @property
    def best_ended(self) -> Trial | None:
        """The leader among the trials that ended: nothing takes its place but a better one."""
        return None if self._ended is None else self._ended[1]

    def update(self, trial: Trial, trials: Collection[Trial], plan: Plan) -> None:
        """Compare one trial with the leaders: looking at all at each report would be quadratic."""
        self._leader = _leading(self._leader, trial, trials, plan)
        if trial.status in ENDED:
            self._ended = _leading(self._ended, trial, _ended(trials), plan)

    def find(self, trials: Collection[Trial], plan: Plan) -> None:
        """Compare all: what has happened may have made any trial usable, or not ended."""
        self._leader = _first(trials, plan)
        self._ended = _first(_ended(trials), plan)


def _leading(
    leader: Leader | None, trial: Trial, trials: Iterable[Trial], plan: Plan
) -> Leader | None:
    rank = rank_of(trial, plan) if trial.usable else None
    if leader is not None and trial is leader[1]:
        if rank is None or rank < leader[0]:  # it failed, or got worse
            return _first(trials, plan)
        return rank, trial
    if rank is not None and (leader is None or rank > leader[0]):
        return rank, trial
    return leader


def _first(trials: Iterable[Trial], plan: Plan) -> Leader | None:
    best = pick_best(trials, plan)
    return None if best is None else (rank_of(best, plan), best)


def _ended(trials: Iterable[Trial]) -> Iterator[Trial]:
    return (trial for trial in trials if trial.status in ENDED)
