"""Asynchronous halving that never lets a trial go on for good: each report judges it anew."""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from cifar_tune.plan.config import Plan
from cifar_tune.plan.rungs import rung_epochs, rungs_below


class JournalledHalving(FIFOScheduler):
    """Stops a trial once successive halving of all reports so far would have left it behind.

    Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter
    Optimization", applied at every report to the reports that are there. Ray's ASHA judges a trial
    once at each rung, by those that came before it: the first at a rung always passes, as do most
    of the first few, and runs on to the next rung whoever comes after it. Here a trial's own report
    counts, and one that passed is stopped at its next report after enough better ones came.
    """

    def __init__(self, plan: Plan) -> None:
        """Rungs by the plan's epochs."""
        super().__init__()
        self._metric = plan.search.metric
        self._sign = 1.0 if plan.search.mode == "max" else -1.0
        self._factor = plan.search.reduction_factor
        self._max_epochs = plan.train.max_epochs
        rungs = rungs_below(rung_epochs(plan), self._max_epochs)
        # By rung, ascending: what each trial reported there, more being better.
        self._reported: dict[int, dict[str, float]] = {rung: {} for rung in rungs}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop a trial that diverged, is left behind, or has all its epochs."""
        name = trial.config["trial_id"]
        self.recall(name, result)
        ended = result["diverged"] or result["epoch"] >= self._max_epochs
        stop = ended or not self._stays(name, result["epoch"])
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def recall(self, name: str, result: dict[str, Any]) -> None:
        """Take in a report. All decisions follow from those taken in, in whatever order."""
        epoch = result["epoch"]
        ahead = [rung for rung in self._reported if rung >= epoch]
        for rung in ahead:
            self._reported[rung].pop(name, None)  # it was tried again, and reports this part anew
        if result["diverged"] and ahead:
            self._reported[ahead[0]][name] = -math.inf  # the rung that it would have reached next
        elif epoch in self._reported:
            self._reported[epoch][name] = self._sign * result[self._metric]

    def _stays(self, name: str, epoch: int) -> bool:
        """Whether successive halving would let this trial go on after `epoch`."""
        left: Set[str] | None = None  # by the rung before; none: all trials
        for rung, reported in self._reported.items():
            if rung > epoch:
                return True
            if name not in reported:
                continue
            left = self._best(reported, left)
            if name not in left:
                return False
        return True

    def _best(self, reported: dict[str, float], among: Set[str] | None) -> set[str]:
        """The best 1 / reduction_factor of those that reported at a rung, at least one; equals too.

        A trial that the rung before leaves behind takes no place.
        """
        values = {name: v for name, v in reported.items() if among is None or name in among}
        count = max(1, len(values) // self._factor)
        cutoff = sorted(values.values(), reverse=True)[count - 1]
        return {name for name, value in values.items() if value >= cutoff}
