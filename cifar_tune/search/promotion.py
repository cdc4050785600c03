"""Promotion: trials wait at each rung, and the best of those that came so far go on.

Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2: unlike ASHA as
Ray has it, nobody passes a rung for having been there first. Who goes on is a function of the
recorded results, so that it comes out the same after a restart.
"""

from __future__ import annotations

from collections.abc import Collection

from cifar_tune.plan.rungs import rung_epochs, rungs_below
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial


def waits(trial: Trial) -> bool:
    """Whether a trial stands at a rung, and was not asked to go on."""
    return trial.paused and trial.status in ("pending", "interrupted")


def next_promoted(results: Results, among: Collection[str]) -> Trial | None:
    """Who goes on: of the latest rung that has one, the best that waits among the best part.

    The part is one in `reduction_factor` of all that came there; who diverged on the way counts.
    """
    search, before = results.plan.search, 0
    promoted = None
    for rung in rungs_below(rung_epochs(results.plan), results.plan.train.max_epochs):
        came = [t for t in results.trials.values() if search.metric in t.results.get(rung, {})]
        lost = [t for t in results.trials.values() if _diverged_between(t, before, rung)]
        ranked = sorted(came, key=lambda trial: (-_value(results, trial, rung), trial.index))
        best = ranked[: (len(came) + len(lost)) // search.reduction_factor]
        here = (t for t in best if waits(t) and t.epochs == rung and t.trial_id in among)
        promoted = next(here, promoted)
        before = rung
    return promoted


def last_promoted(results: Results, waiting: Collection[Trial]) -> Trial | None:
    """Who goes on when no other trial is left and none has completed, so that one does."""
    if not waiting or any(trial.status == "completed" for trial in results.trials.values()):
        return None
    return max(waiting, key=lambda trial: (trial.epochs, _value(results, trial, trial.epochs)))


def _value(results: Results, trial: Trial, epoch: int) -> float:
    """More is better."""
    search = results.plan.search
    return search.sign * trial.results[epoch][search.metric]


def _diverged_between(trial: Trial, before: int, rung: int) -> bool:
    return trial.status == "diverged" and before < trial.epochs <= rung
