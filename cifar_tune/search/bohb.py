"""BOHB's rule: TPE that learns from the largest budget at which enough trials have reported.

Falkner et al. 2018, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale". A budget is
a rung of the scheduler, in epochs, or the whole length. The paper draws a third of the
configurations at random, which this does without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from cifar_tune.plan.compatibility import reports_to_learn
from cifar_tune.plan.config import Plan
from cifar_tune.plan.rungs import rung_epochs, rungs_below
from cifar_tune.record.journal import Event
from cifar_tune.record.optuna_trials import earlier_trials
from cifar_tune.record.results import Results
from cifar_tune.record.trials import ENDED, Trial
from cifar_tune.search.sampling import End
from cifar_tune.search.study import OptunaStudy


class BohbStudy(OptunaStudy):
    """Shows TPE every trial as it was at one budget, so that a few long ones do not outvote many.

    Who came so far is complete there with what it reported there, whether it went on or not. Who
    was stopped before is pruned: TPE ranks it behind these, by how far it came (the paper leaves it
    out, and so learns from less what is bad). Who diverged before is the worst.
    """

    def __init__(self, plan: Plan, folder: Path, sampler: Callable[[int], BaseSampler]) -> None:
        """Begin with nothing told, and without a budget: as long as that is so, TPE draws."""
        super().__init__(plan, folder, sampler)
        longest = plan.train.max_epochs
        self._reported = {
            budget: set[str]() for budget in (*rungs_below(rung_epochs(plan), longest), longest)
        }
        self._enough = reports_to_learn(plan.search)
        self._budget: int | None = None

    def observe(self, event: Event, results: Results) -> None:
        """Note what is to be learnt, and go to a larger budget once that has enough reports."""
        super().observe(event, results)
        if event["event"] == "result" and not event["diverged"]:
            self._count(event["trial_id"], [int(event["metrics"]["epoch"])])
        elif event["event"] == "started_from":
            for trial in earlier_trials(event, self._plan.search.metric):
                steps = trial.curve(self._plan.search.metric)
                self._count(f"{event['source']}:{trial.index}", steps)

    def _count(self, name: str, epochs: Iterable[int]) -> None:
        for epoch in self._reported.keys() & epochs:
            self._reported[epoch].add(name)
        enough = [budget for budget, names in self._reported.items() if len(names) >= self._enough]
        if max(enough, default=None) != self._budget:
            self._budget = max(enough)
            self._sampling = None  # an earlier search's trials are shown otherwise as well
            for trial in self._told.trials.values():
                self._follow(trial)

    def _end_of(self, trial: Trial) -> End | None:
        steps = trial.curve(self._plan.search.metric)
        if self._budget in steps:
            return End("completed", self._budget, TrialState.COMPLETE, (steps[self._budget],))
        if trial.status not in ENDED:
            return None
        lost = trial.status in ("stopped", "diverged") and self._budget is not None
        state = TrialState.PRUNED if lost else TrialState.FAIL
        return End(trial.status, trial.epochs, state, None)
