"""The table of rungs and brackets is what Ray's schedulers do, and what halving then costs."""

from __future__ import annotations

import pytest

from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.rungs import brackets, expected_epochs, rung_epochs, rung_table

SHAPES = [
    (9, 1, 3), (10, 1, 2), (27, 2, 3), (243, 1, 3), (1000, 1, 10), (5, 5, 2), (81, 3, 3), (8, 1, 2),
    (125, 1, 5), (1, 1, 2),
]  # fmt: skip


def plan_of(scheduler: str, epochs: int = 9, grace: int = 1, factor: int = 3) -> Plan:
    return load_plan(
        None,
        [
            f"search.scheduler={scheduler}",
            f"train.max_epochs={epochs}",
            f"search.grace_period={grace}",
            f"search.reduction_factor={factor}",
        ],
    )


@pytest.mark.parametrize(("epochs", "grace", "factor"), SHAPES)
def test_the_rungs_are_those_of_rays_own_scheduler(epochs: int, grace: int, factor: int) -> None:
    from ray.tune.schedulers import ASHAScheduler

    scheduler = ASHAScheduler(max_t=epochs, grace_period=grace, reduction_factor=factor)
    milestones = [milestone for milestone, _ in scheduler._brackets[0]._rungs]
    assert list(rung_epochs(plan_of("asha", epochs, grace, factor))) == sorted(milestones)


@pytest.mark.parametrize(("epochs", "grace", "factor"), SHAPES)
def test_the_brackets_are_those_of_rays_own_scheduler(epochs: int, grace: int, factor: int) -> None:
    import numpy as np
    from ray.tune.schedulers import AsyncHyperBandScheduler

    plan = plan_of("hyperband", epochs, grace, factor)
    scheduler = AsyncHyperBandScheduler(
        max_t=epochs, grace_period=grace, reduction_factor=factor, brackets=len(rung_epochs(plan))
    )
    milestones = [sorted(rung for rung, _ in bracket._rungs) for bracket in scheduler._brackets]
    assert [list(rungs) for rungs, _ in brackets(plan)] == milestones
    weights = np.exp([len(rungs) for rungs in milestones])  # as its on_trial_add draws
    assert [share for _, share in brackets(plan)] == pytest.approx(weights / weights.sum())


@pytest.mark.parametrize("scheduler", ["none", "median", "pbt"])
def test_other_schedulers_have_no_rung_and_run_everything(scheduler: str) -> None:
    plan = plan_of(scheduler)
    assert rung_epochs(plan) == ()
    assert rung_table(plan, 16) == []
    assert expected_epochs(plan, 16) == 16 * 9


@pytest.mark.parametrize("scheduler", ["asha", "promote", "halving"])
def test_ideal_halving_leaves_a_third_at_each_rung(scheduler: str) -> None:
    # 9 trials for 1 epoch, 3 for 2 more, 1 for 6 more
    assert expected_epochs(plan_of(scheduler), 9) == 9 + 6 + 6


def test_a_bracket_that_gets_less_than_one_trial_does_not_grow() -> None:
    plan = plan_of("hyperband", epochs=243)
    assert brackets(plan)[-1][1] < 0.02
    assert expected_epochs(plan, 1) <= 243


@pytest.mark.parametrize("scheduler", ["asha", "promote", "halving"])
def test_the_table_of_one_bracket_has_a_line_a_rung(scheduler: str) -> None:
    first, second = rung_table(plan_of(scheduler), 16)
    assert "after epoch 1: about 16 trials are judged, the best 1/3 go on (about 5)" in first
    assert "after epoch 3: about 5 trials are judged, the best 1/3 go on (about 2)" in second


def test_hyperbands_table_has_a_line_a_bracket() -> None:
    assert rung_table(plan_of("hyperband"), 100) == [
        "bracket 1   about 67 of 100 trials: the best 1/3 go on after epoch 1, 3",
        "bracket 2   about 24 of 100 trials: the best 1/3 go on after epoch 3",
        "bracket 3   about 9 of 100 trials: all run to the end",
    ]
