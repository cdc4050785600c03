"""Which trials are stopped early: Ray's schedulers, made to go on where a journal ends."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from cifar_tune.config import Plan
from cifar_tune.journal import Event


class JournalledASHA(ASHAScheduler):
    """Ray's ASHA under our trial ids, so that rungs stay right when a trial comes back.

    After a restart Ray gives the same trial another id; under that id a rung would count it twice
    and judge it again.
    """

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """A trial starts, or comes back."""
        super().on_trial_add(tune_controller, _named(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Ray's decision on one result."""
        return str(super().on_trial_result(tune_controller, _named(trial), result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """A trial ended by itself."""
        super().on_trial_complete(tune_controller, _named(trial), result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """A trial was stopped before it ran."""
        super().on_trial_remove(tune_controller, _named(trial))


def _named(trial: Any) -> SimpleNamespace:
    return SimpleNamespace(trial_id=trial.config["trial_id"])


def build_scheduler(plan: Plan) -> TrialScheduler:
    """The scheduler of a plan. Metric and mode go here and nowhere else."""
    search = plan.search
    if search.scheduler == "none":
        return FIFOScheduler()
    return JournalledASHA(
        time_attr="epoch",
        metric=search.metric,
        mode=search.mode,
        max_t=plan.train.max_epochs,
        grace_period=search.grace_period,
        reduction_factor=search.reduction_factor,
    )


def refill(scheduler: TrialScheduler, reports: Iterable[Event]) -> None:
    """Tell a fresh scheduler all recorded reports, in the order in which they came."""
    if not isinstance(scheduler, JournalledASHA):
        return  # the others decide without a memory
    stand_ins: dict[str, SimpleNamespace] = {}
    for event in reports:
        name = event["trial_id"]
        if name not in stand_ins:
            stand_ins[name] = SimpleNamespace(config={"trial_id": name})
            scheduler.on_trial_add(None, stand_ins[name])
        scheduler.on_trial_result(None, stand_ins[name], event["metrics"])
