"""How much of a search is still to come, its finals included, from what it took so far."""

from __future__ import annotations

import math
from typing import NamedTuple

from cifar_tune.plan.forecast import compares
from cifar_tune.plan.rungs import expected_epochs
from cifar_tune.plan.section import budget_seconds
from cifar_tune.record.results import Results
from cifar_tune.record.trials import ENDED


class TimeLeft(NamedTuple):
    """Epochs of the search that are expected in all, and seconds until the end of the finals.

    The seconds are none where nothing is known yet.
    """

    epochs: int
    seconds: float | None


def time_left(results: Results, elapsed: float) -> TimeLeft:
    """What is to come, by the epochs that trials took so far and the rungs ahead.

    A trial is expected to take what ideal halving gives it, corrected by those that ended: as if
    as many trials as there are slots had taken exactly the ideal.

    Args:
        results: of the search.
        elapsed: seconds since this start began, for its time budget.
    """
    plan, trials = results.plan, list(results.trials.values())
    total = plan.search.num_samples
    slots = max(1, results.starts[-1].slots if results.starts else 1)
    ended = [trial.epochs for trial in trials if trial.status in ENDED]
    ideal = expected_epochs(plan, total) / max(1, total)
    mean = (ideal * slots + sum(ended)) / (slots + len(ended))
    open_trials = [trial for trial in trials if trial.status not in ENDED]
    left = mean * (total - len(trials))
    left += sum(max(1.0, mean - trial.epochs) for trial in open_trials)
    done = sum(trial.epochs for trial in trials)
    busy = sum(trial.busy_seconds for trial in trials)
    seconds = None
    if busy > 0 and done > 0:
        at_once = max(1, min(slots, total - len(ended)))
        seconds = (left / at_once + _finals_epochs(results, slots)) * busy / done
    if seconds is not None and plan.search.time_budget is not None:
        seconds = min(seconds, max(0.0, budget_seconds(plan.search.time_budget) - elapsed))
    return TimeLeft(epochs=round(done + left), seconds=seconds)


def _finals_epochs(results: Results, slots: int) -> float:
    """Epochs of the finals that follow each other on a slot, in epochs of the search's length."""
    plan, data = results.plan, results.data
    finals, epochs = plan.finals, plan.train.max_epochs
    compared = finals.compared * finals.seeds if compares(plan) else 0
    train, held = data.get("train") or 1, data.get("val", 0) + data.get("confirm", 0)
    whole = float(1 + held / train)  # the last ones train on all
    return epochs * (math.ceil(compared / slots) + math.ceil(finals.seeds / slots) * whole)
