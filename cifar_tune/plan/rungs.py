"""Where trials are judged before their end, and what a search costs if that works ideally."""

from __future__ import annotations

import math
from collections.abc import Collection

from cifar_tune.plan.abilities import ComparesLater
from cifar_tune.plan.config import Plan
from cifar_tune.plan.task import task_of


def first_rung(plan: Plan) -> int:
    """The plan's grace period in epochs; auto: early enough for two rungs, but no lottery.

    On recorded curves of 27 epochs whose learning rate rises until 6.75, a first rung at epoch 1
    cost 6 to 12 points of regret with asha (mean), 3 cost 1 to 3, and 7 none
    (benchmarks/early_stopping.py).
    """
    grace, epochs, task = plan.search.grace_period, plan.train.max_epochs, task_of(plan)
    if grace != "auto":
        return grace
    early = math.ceil(epochs / plan.search.reduction_factor**2)
    return min(epochs, task.comparable(plan, early) if isinstance(task, ComparesLater) else early)


def rung_epochs(plan: Plan) -> tuple[int, ...]:
    """The epochs at which ASHA, promotion, halving or Hyperband judges, ascending; else empty.

    All but Hyperband have all of them in one bracket, and so has Hyperband's first. The count is
    computed as Ray computes it, rounding included, so that the table is what happens.
    """
    search = plan.search
    if search.scheduler not in ("asha", "promote", "halving", "hyperband"):
        return ()
    low, high, factor = first_rung(plan), plan.train.max_epochs, search.reduction_factor
    count = int(math.log(high / low) / math.log(factor) + 1)
    return tuple(low * factor**rung for rung in range(count))


def rungs_below(rungs: tuple[int, ...], epochs: int) -> tuple[int, ...]:
    """The rungs at which a trial can still be stopped early."""
    return tuple(rung for rung in rungs if rung < epochs)


def expected_epochs(plan: Plan, trials: int) -> int:
    """Epochs that ideal halving would run: each rung is left by one in `reduction_factor`."""
    total, end = 0.0, plan.train.max_epochs
    for bracket, share in brackets(plan):
        left, reached = trials * share, 0
        for rung in (*rungs_below(bracket, end), end):
            total += left * (rung - reached)
            left, reached = max(min(left, 1.0), left / plan.search.reduction_factor), rung
    return round(total)


def brackets(plan: Plan) -> list[tuple[tuple[int, ...], float]]:
    """The rungs of each bracket, and the part of the trials that it gets.

    Hyperband's bracket s (from 0) leaves out the first s rungs; a trial's bracket is drawn in
    proportion to e to the power of its number of rungs, as Ray does.
    """
    rungs = rung_epochs(plan)
    count = len(rungs) if plan.search.scheduler == "hyperband" else 1
    weights = [math.exp(-skipped) for skipped in range(count)]
    return [(rungs[skipped:], weight / sum(weights)) for skipped, weight in enumerate(weights)]


def rung_table(plan: Plan, trials: int) -> list[str]:
    """A line a rung of ASHA or halving, a line a bracket of Hyperband; else none."""
    if plan.search.scheduler == "hyperband":
        return _bracket_lines(plan, trials)
    factor, left, lines = plan.search.reduction_factor, float(trials), []
    for rung in rungs_below(rung_epochs(plan), plan.train.max_epochs):
        go_on = max(1, round(left / factor))
        lines.append(
            f"rung        after epoch {rung}: about {round(left)} trials are judged, the best"
            f" 1/{factor} go on (about {go_on})"
        )
        left = max(1.0, left / factor)
    return lines


def _bracket_lines(plan: Plan, trials: int) -> list[str]:
    factor, lines = plan.search.reduction_factor, []
    for number, (rungs, share) in enumerate(brackets(plan), 1):
        judged = ", ".join(str(rung) for rung in rungs_below(rungs, plan.train.max_epochs))
        fate = f"the best 1/{factor} go on after epoch {judged}" if judged else "all run to the end"
        lines.append(f"bracket {number:<4}about {round(trials * share)} of {trials} trials: {fate}")
    return lines


def pause_epochs(plan: Plan) -> Collection[int]:
    """The epochs after which every trial waits for the others: exchanges, or rungs of promote."""
    if plan.search.scheduler == "promote":
        return rungs_below(rung_epochs(plan), plan.train.max_epochs)
    return exchange_epochs(plan)


def exchange_epochs(plan: Plan) -> range:
    """The epochs after which a population exchanges, ascending; empty without pbt."""
    if plan.search.scheduler != "pbt":
        return range(0)
    step = plan.search.perturbation_interval
    return range(step, plan.train.max_epochs, step)
