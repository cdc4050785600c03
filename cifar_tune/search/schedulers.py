"""Which trials are stopped early: Ray's schedulers, made to go on where a journal ends."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from cifar_tune.plan.config import Plan
from cifar_tune.plan.rungs import brackets, first_rung, pause_epochs, rung_epochs, rungs_below
from cifar_tune.record.journal import Event
from cifar_tune.search.trainable import WORST


@dataclass(frozen=True)
class _Named:
    """Stands for a trial under our id.

    After a restart Ray gives the same trial another object and another id: a scheduler would count
    it twice and judge it again.
    """

    trial_id: str


def _named(trial: Any) -> _Named:
    return _Named(trial.config["trial_id"])


class JournalledASHA(ASHAScheduler):
    """Ray's ASHA under our trial ids; each report counts once, and it can recall recorded ones."""

    def __init__(self, plan: Plan, *, bracket_count: int = 1) -> None:
        """Rungs by the plan's epochs, the first of bracket s (from 0) at its rung s."""
        super().__init__(
            time_attr="epoch",
            max_t=plan.train.max_epochs,
            grace_period=first_rung(plan),
            reduction_factor=plan.search.reduction_factor,
            brackets=bracket_count,
            **_goal(plan),
        )
        self._worst: float | None = None  # of all reports, those of diverged trials left out

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """A trial starts, or comes back."""
        self._enter(_named(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Ray's decision on one report; a diverged trial ends."""
        return self._judge(_named(trial), result)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """A trial ended. Ray hands in its last report again, which is counted already."""
        self._trial_info.pop(_named(trial).trial_id, None)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """A trial was stopped before it ran."""
        self._trial_info.pop(_named(trial).trial_id, None)

    def recall(self, name: str, result: dict[str, Any]) -> None:
        """Take in a recorded report as if it came now; the decision on it is history."""
        self._enter(_Named(name))
        self._judge(_Named(name), result)

    def _enter(self, trial: _Named) -> None:
        self._trial_info[trial.trial_id] = self._brackets[0]

    def _judge(self, trial: _Named, result: dict[str, Any]) -> str:
        value = self._metric_op * result[self._metric]
        if result["diverged"]:
            # It counts as a loser, but its loss of 1e9 would pull the rungs' interpolated cutoffs.
            if self._worst is not None:
                worst = {**result, self._metric: self._metric_op * self._worst}
                super().on_trial_result(None, trial, worst)
            return str(TrialScheduler.STOP)
        self._worst = value if self._worst is None else min(value, self._worst)
        return str(super().on_trial_result(None, trial, result))


class JournalledHyperband(JournalledASHA):
    """Asynchronous Hyperband: ASHA in as many brackets as there are rungs.

    Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning".
    """

    def __init__(self, plan: Plan) -> None:
        self._shares = [share for _, share in brackets(plan)]
        super().__init__(plan, bracket_count=len(self._shares))
        self._seed = plan.seed

    def _enter(self, trial: _Named) -> None:
        # Ray draws by numpy's global state, so after a restart a trial would change its bracket.
        rng = random.Random(f"{self._seed}:{trial.trial_id}:bracket")
        self._trial_info[trial.trial_id] = rng.choices(self._brackets, self._shares)[0]


class JournalledHalving(FIFOScheduler):
    """Stops a trial once successive halving of all reports so far would have left it behind.

    Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter
    Optimization", applied at every report to the reports that are there. Ray's ASHA judges a trial
    once at each rung, by those that came before it: the first at a rung always passes, as do most
    of the first few, and runs on to the next rung whoever comes after it. Here a trial's own report
    counts, and one that passed is stopped at its next report after enough better ones came.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._metric = plan.search.metric
        self._sign = plan.search.sign
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


class JournalledMedian(MedianStoppingRule):
    """Ray's median stopping rule under our trial ids; each epoch of a trial counts once.

    Golovin et al. 2017, "Google Vizier: A Service for Black-Box Optimization".
    """

    def __init__(self, plan: Plan) -> None:
        """No trial is stopped before the plan's grace period."""
        super().__init__(
            time_attr="epoch",
            grace_period=first_rung(plan),
            hard_stop=True,
            **_goal(plan),
        )
        self._max_epochs = plan.train.max_epochs

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Ray's decision on one report; a trial that diverged or has all its epochs ends."""
        named = _named(trial)
        if result["diverged"]:  # its figures would spoil the running mean of its good epochs
            return str(TrialScheduler.STOP)
        self._forget_from(named, result["epoch"])
        self._stopped_trials.discard(named)  # it came back, and Ray asserts that none does
        decision = super().on_trial_result(tune_controller, named, result)
        ended = result["epoch"] >= self._max_epochs
        return str(TrialScheduler.STOP if ended else decision)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """A trial ended. Ray would count its last report a second time."""

    def recall(self, name: str, result: dict[str, Any]) -> None:
        """Take in a recorded report, without the costly decision on it."""
        if not result["diverged"]:
            self._forget_from(_Named(name), result["epoch"])
            self._results[_Named(name)].append(result)

    def _forget_from(self, trial: _Named, epoch: int) -> None:
        """A trial that was tried again reports epochs anew: the new reports are the ones."""
        known = self._results[trial]
        self._results[trial] = [earlier for earlier in known if earlier["epoch"] < epoch]

    def _on_insufficient_samples(self, tune_controller: Any, trial: Any, time: float) -> str:
        """Go on. Ray would pause the trial, and one without a checkpoint starts from scratch."""
        return str(TrialScheduler.CONTINUE)


class Pauses(FIFOScheduler):
    """Ends a trial for Ray where it waits: for its population, or at a rung to be promoted.

    The queue hands it out again when it goes on.
    """

    def __init__(self, plan: Plan, held: Collection[int]) -> None:
        """`held`: the epochs of a population's past exchanges."""
        super().__init__()
        self._epochs = pause_epochs(plan)
        self._held = held

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop where it waits, unless a straggler comes by when an exchange is over."""
        epoch = result["epoch"]
        stop = epoch in self._epochs and epoch not in self._held
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)


def build_scheduler(plan: Plan, held: Collection[int] = ()) -> TrialScheduler:
    """The scheduler of a plan. Metric and mode go here and nowhere else.

    `held` are the epochs of the population's exchanges so far; it may grow meanwhile.
    """
    match plan.search.scheduler:
        case "asha":
            return JournalledASHA(plan)
        case "halving":
            return JournalledHalving(plan)
        case "hyperband":
            return JournalledHyperband(plan)
        case "median":
            return JournalledMedian(plan)
        case "pbt" | "promote":
            return Pauses(plan, held)
        case _:
            return FIFOScheduler()


def refill(scheduler: TrialScheduler, plan: Plan, events: Iterable[Event]) -> None:
    """Tell a fresh scheduler all recorded `result` events, in the order in which they came."""
    if not isinstance(scheduler, (JournalledASHA, JournalledHalving, JournalledMedian)):
        return  # it has no memory
    for event in events:
        metrics, diverged = event["metrics"], event["diverged"]
        if diverged:  # as Ray was told
            metrics = {plan.search.metric: -plan.search.sign * WORST, **metrics}
        scheduler.recall(event["trial_id"], {**metrics, "diverged": diverged})


def _goal(plan: Plan) -> dict[str, str]:
    return {"metric": plan.search.metric, "mode": plan.search.mode}
