"""Halving keeps what successive halving of all reports so far would keep, at every report."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import load_plan
from cifar_tune.search.halving import JournalledHalving
from cifar_tune.search.schedulers import build_scheduler

Report = tuple[str, int, float, bool]


def plan_with(*overrides: str, epochs: int = 27) -> Plan:
    return load_plan(None, ["search.scheduler=halving", f"train.max_epochs={epochs}", *overrides])


class Judge:
    """Tells a scheduler one report after the other."""

    def __init__(self, plan: Plan) -> None:
        self.scheduler = build_scheduler(plan)
        assert isinstance(self.scheduler, JournalledHalving)

    def says(self, name: str, epoch: int, accuracy: float, diverged: bool = False) -> str:
        loss = 1e9 if diverged else 1 - accuracy
        result = {"epoch": epoch, "val_accuracy": accuracy, "val_loss": loss, "diverged": diverged}
        trial = SimpleNamespace(config={"trial_id": name})
        return str(self.scheduler.on_trial_result(None, trial, result))


def test_a_trials_own_report_counts_in_the_cutoff() -> None:
    judge = Judge(plan_with())
    assert judge.says("t0001", 1, 0.5) == "CONTINUE"  # the best of one
    assert judge.says("t0002", 1, 0.4) == "STOP"  # not the best of two
    assert judge.says("t0003", 1, 0.6) == "CONTINUE"


def test_a_trial_that_passed_early_is_stopped_between_rungs_once_better_ones_came() -> None:
    judge = Judge(plan_with())
    assert judge.says("t0001", 1, 0.5) == "CONTINUE"
    assert judge.says("t0001", 2, 0.9) == "CONTINUE"
    assert judge.says("t0002", 1, 0.6) == "CONTINUE"
    assert judge.says("t0001", 3, 0.9) == "STOP"


def test_one_that_the_rung_before_leaves_behind_takes_no_place_at_a_later_rung() -> None:
    judge = Judge(plan_with())
    judge.says("t0001", 1, 0.5)
    assert judge.says("t0001", 3, 0.9) == "CONTINUE"
    judge.says("t0002", 1, 0.6)
    assert judge.says("t0002", 3, 0.7) == "CONTINUE"
    assert judge.says("t0001", 4, 0.9) == "STOP"


@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_a_diverged_trial_is_out_at_once_and_counts_as_the_worst_of_its_next_rung(
    metric: str, epoch: int
) -> None:
    judge = Judge(plan_with(f"search.metric={metric}"))
    rung = {1: 1, 2: 3, 4: 9}[epoch]
    for number in range(4):
        judge.says(f"t{number:04}", rung, 0.9 - number / 10)
    assert judge.says("t0010", rung, 0.85) == "STOP"  # the second of five
    assert judge.says("t0011", epoch, 0.0, diverged=True) == "STOP"
    assert judge.says("t0010", rung, 0.85) == "CONTINUE"  # of six


@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
def test_equals_go_on_together(metric: str) -> None:
    judge = Judge(plan_with(f"search.metric={metric}"))
    assert {judge.says(f"t{number:04}", 1, 0.5) for number in range(9)} == {"CONTINUE"}
    assert judge.says("t0099", 1, 0.49) == "STOP"


def test_before_the_grace_period_nothing_is_stopped() -> None:
    judge = Judge(plan_with("search.grace_period=3"))
    said = {judge.says(f"t{n:04}", epoch, 1 / (n + 2)) for epoch in (1, 2) for n in range(9)}
    assert said == {"CONTINUE"}


def synchronous(values: dict[str, list[float]], rungs: list[int]) -> set[str]:
    """Those that synchronous successive halving by 3 trains to the end."""
    left = set(values)
    for rung in rungs:
        by_value = sorted((values[name][rung - 1] for name in left), reverse=True)
        cutoff = by_value[max(1, len(left) // 3) - 1]
        left = {name for name in left if values[name][rung - 1] >= cutoff}
    return left


@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_trials_side_by_side_end_as_in_synchronous_halving(count: int, rng: random.Random) -> None:
    """One epoch of each after the other: whoever is best at a rung is known at the next epoch."""
    judge = Judge(plan_with(epochs=27))
    values = {f"t{number:04}": [rng.random() for _ in range(27)] for number in range(count)}
    running = list(values)
    for epoch in range(1, 27):
        said = {name: judge.says(name, epoch, values[name][epoch - 1]) for name in running}
        if epoch not in (1, 3, 9):  # at a rung itself, some reported before others did
            running = [name for name in running if said[name] == "CONTINUE"]
    assert set(running) == synchronous(values, [1, 3, 9])


@given(st.data())
def test_what_was_recalled_decides_whatever_its_order(data: st.DataObject) -> None:
    plan = plan_with(epochs=9)
    reports: list[Report] = [
        (f"t{number:04}", epoch, data.draw(st.floats(0, 1)), False)
        for number in range(data.draw(st.integers(1, 12)))
        for epoch in (1, 2, 3)
    ]
    mixed = data.draw(st.permutations(sorted({name for name, *_ in reports})))
    other = [report for name in mixed for report in reports if report[0] == name]
    first, second = Judge(plan), Judge(plan)
    for judge, order in ((first, reports), (second, other)):
        for name, epoch, accuracy, diverged in order:
            judge.says(name, epoch, accuracy, diverged)
    for name in mixed:
        assert first.says(name, 4, 0.5) == second.says(name, 4, 0.5)
