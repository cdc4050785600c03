"""Early stopping across a restart: on simulated reports, and on those of a real search."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search import objectives
from search.searching import events, searching, stopped_after

from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.rungs import brackets
from cifar_tune.record.journal import Event, read_journal
from cifar_tune.search.schedulers import build_scheduler, refill

EPOCHS = 8
JUDGES = ("asha", "halving", "hyperband", "median")


def plan_with(scheduler: str, *overrides: str, epochs: int = EPOCHS) -> Plan:
    values = [f"search.scheduler={scheduler}", f"train.max_epochs={epochs}"]
    rungs = ["search.grace_period=1", "search.reduction_factor=2"]
    return load_plan(None, [*values, *rungs, *overrides])


def report(name: str, epoch: int, accuracy: float, *, diverged: bool = False) -> Event:
    """A `result` event of the journal, without what no scheduler reads."""
    loss = 1e9 if diverged else 1 - accuracy
    metrics = {"epoch": epoch, "val_accuracy": accuracy, "val_loss": loss}
    return {"trial_id": name, "metrics": metrics, "diverged": diverged}


def simulated_reports(trials: int, seed: int) -> list[Event]:
    """Reports of trials that run two at a time and never stop, in the order they come in.

    Every fifth trial crashes after epoch 3 and goes on from epoch 2, whose successor it repeats;
    every seventh diverges in epoch 4.
    """
    rng = random.Random(seed)
    quality = {f"t{index:04}": rng.random() for index in range(1, trials + 1)}
    waiting, running, reports = list(quality), dict[str, list[int]](), list[Event]()
    while waiting or running:
        while waiting and len(running) < 2:
            number, name = len(quality) - len(waiting) + 1, waiting.pop(0)
            running[name] = list(range(1, EPOCHS + 1)) if number % 7 else [1, 2, 3, -4]
            if number % 5 == 0:
                running[name].insert(3, 3)
        name = rng.choice(sorted(running))
        epoch = running[name].pop(0)
        accuracy = 0.0 if epoch < 0 else quality[name] + rng.gauss(0, 0.1)
        reports.append(report(name, abs(epoch), accuracy, diverged=epoch < 0))
        if not running[name]:
            del running[name]
    return reports


class Ray:
    """Calls a scheduler as Ray does: under ids and objects of its own, once more at the end."""

    def __init__(self, plan: Plan, recorded: list[Event] | None = None) -> None:
        self.scheduler = build_scheduler(plan)
        refill(self.scheduler, plan, recorded or [])
        self.trials: dict[str, Any] = {}

    def decide(self, event: Event) -> str:
        name = event["trial_id"]
        if name not in self.trials:
            ray_id = f"ray-{id(self)}-{name}"
            self.trials[name] = SimpleNamespace(trial_id=ray_id, config={"trial_id": name})
            self.scheduler.on_trial_add(None, self.trials[name])
        result = {**event["metrics"], "diverged": event["diverged"]}
        decision = str(self.scheduler.on_trial_result(None, self.trials[name], result))
        if decision == "STOP":
            self.end(event)
        return decision

    def end(self, event: Event) -> None:
        """A trial ends; Ray hands in its last report once more."""
        trial = self.trials.pop(event["trial_id"])
        result = {**event["metrics"], "diverged": event["diverged"]}
        self.scheduler.on_trial_complete(None, trial, result)


def newcomer(plan: Plan) -> str:
    """An id that Hyperband draws into its first bracket, which judges at the first rung."""
    scheduler = build_scheduler(plan)
    for name in (f"t{number:04}" for number in range(99, 200)):
        scheduler.on_trial_add(None, SimpleNamespace(config={"trial_id": name}))
        if (
            plan.search.scheduler in ("halving", "median")
            or scheduler._trial_info[name] is scheduler._brackets[0]
        ):
            return name
    raise AssertionError


def unbroken(plan: Plan, reports: list[Event]) -> tuple[list[Event], list[str]]:
    """The reports that come in when stopped trials stay silent, and the decisions on them."""
    ray, stopped = Ray(plan), set[str]()
    kept, decisions = list[Event](), list[str]()
    for event in reports:
        if event["trial_id"] not in stopped:
            kept.append(event)
            decisions.append(ray.decide(event))
            stopped |= {event["trial_id"]} if decisions[-1] == "STOP" else set()
    return kept, decisions


@pytest.mark.parametrize("scheduler", JUDGES)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_decisions_after_a_restart_are_those_of_an_unbroken_run(
    scheduler: str, seed: int, part: float
) -> None:
    plan = plan_with(scheduler, f"seed={seed}")
    kept, decisions = unbroken(plan, simulated_reports(60, seed))
    cut = int(part * len(kept))
    np.random.seed(seed)  # whatever others drew meanwhile
    restarted = Ray(plan, kept[:cut])
    assert [restarted.decide(event) for event in kept[cut:]] == decisions[cut:]
    rest = zip(kept[cut:], decisions[cut:], strict=True)
    stopped = [event for event, decision in rest if decision == "STOP"]
    assert any(e["metrics"]["epoch"] < EPOCHS and not e["diverged"] for e in stopped)


@pytest.mark.parametrize("scheduler", ["hyperband", "median"])
@pytest.mark.usefixtures("ray_session")
def test_recorded_reports_lead_to_the_decisions_that_a_real_search_recorded(
    scheduler: str, tmp_path: Path
) -> None:
    values = ["search.num_samples=14", "search.grace_period=2", "search.reduction_factor=2"]
    chosen = [f"search.scheduler={scheduler}", f"train.max_epochs={EPOCHS}", *values]
    results, _ = searching(tmp_path)(*chosen)
    plan = results.plan
    recorded = events(results, "result")
    decided = ["STOP" if event["done"] else "CONTINUE" for event in recorded]
    early = [event for event in recorded if event["done"] and event["metrics"]["epoch"] < EPOCHS]
    assert early
    for cut in (0, len(recorded) // 3, 2 * len(recorded) // 3):
        restarted = Ray(plan, recorded[:cut])
        assert [restarted.decide(event) for event in recorded[cut:]] == decided[cut:]


@pytest.mark.faults
@pytest.mark.parametrize("scheduler", ["asha", "halving"])
@pytest.mark.usefixtures("ray_session")
def test_row_09_a_search_stopped_twice_records_the_decisions_of_an_unbroken_scheduler(
    scheduler: str, tmp_path: Path
) -> None:
    values = ["search.num_samples=16", "search.grace_period=2", "search.reduction_factor=2"]
    chosen = [f"search.scheduler={scheduler}", f"train.max_epochs={EPOCHS}", *values]
    for reports in (12, 24):
        with stopped_after(tmp_path, reports):
            _, stop = searching(tmp_path)(*chosen, objective=objectives.slow_with_file)
        assert stop.signal is not None
    results, stop = searching(tmp_path)(*chosen, objective=objectives.with_file)
    assert stop.reason is None
    assert len(results.trials) == 16
    recorded, ray = events(results, "result"), Ray(results.plan)
    decided = ["STOP" if event["done"] else "CONTINUE" for event in recorded]
    assert [ray.decide(event) for event in recorded] == decided
    told = [(event["trial_id"], event["metrics"]["epoch"]) for event in recorded]
    assert len(set(told)) == len(told), "no epoch was repeated"
    early = [
        event["seq"] for event in recorded if event["done"] and event["metrics"]["epoch"] < EPOCHS
    ]
    assert early[-1] > read_journal(tmp_path).of("start")[-1]["seq"]


@pytest.mark.parametrize("scheduler", JUDGES)
def test_a_fresh_scheduler_would_decide_otherwise(scheduler: str) -> None:
    """Without the refill the tests above could not pass: it is what they test."""
    plan = plan_with(scheduler)
    good = [report(f"t{index:04}", 1, 0.9) for index in range(1, 60)]
    bad = report(newcomer(plan), 1, 0.1)
    assert Ray(plan, good).decide(bad) == "STOP"
    assert Ray(plan).decide(bad) == "CONTINUE"


@pytest.mark.parametrize("scheduler", JUDGES)
def test_a_trial_ends_at_its_last_epoch(scheduler: str) -> None:
    ray = Ray(plan_with(scheduler))
    decisions = [ray.decide(report("t0001", epoch, 0.5)) for epoch in range(1, EPOCHS + 1)]
    assert decisions == ["CONTINUE"] * (EPOCHS - 1) + ["STOP"]


@pytest.mark.parametrize("scheduler", ["asha", "median"])
@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
def test_diverged_trials_end_and_do_not_save_the_losers(scheduler: str, metric: str) -> None:
    """A loss of 1e9 would pull a rung's interpolated cutoff, and a running mean."""
    plan = plan_with(scheduler, f"search.metric={metric}")
    ray = Ray(plan)
    for index in range(4):
        assert ray.decide(report(f"t{index:04}", 1, 0.9)) == "CONTINUE"
        assert ray.decide(report(f"t{index + 10:04}", 1, 0.0, diverged=True)) == "STOP"
    assert ray.decide(report("t0099", 1, 0.8)) == "STOP"
    assert ray.decide(report("t0098", 1, 0.9)) == "CONTINUE"


@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
def test_diverged_trials_count_among_those_that_a_rung_leaves_behind(metric: str) -> None:
    ray = Ray(plan_with("asha", f"search.metric={metric}"))
    for index, accuracy in enumerate((0.9, 0.8, 0.7)):
        ray.decide(report(f"t{index:04}", 1, accuracy))
    assert ray.decide(report("t0010", 1, 0.75)) == "STOP"
    for index in range(20, 24):
        ray.decide(report(f"t{index:04}", 1, 0.0, diverged=True))
    assert ray.decide(report("t0011", 1, 0.75)) == "CONTINUE"


@pytest.mark.parametrize("scheduler", JUDGES)
def test_a_stopped_trial_that_is_tried_again_goes_on_under_its_id(scheduler: str) -> None:
    plan = plan_with(scheduler)
    recorded = [report(f"t{index:04}", 1, 0.9) for index in range(1, 60)]
    name = newcomer(plan)
    stopped = report(name, 1, 0.1)
    again = [report(name, epoch, 0.95) for epoch in (1, 2, 3)]
    ray = Ray(plan, recorded)
    assert ray.decide(stopped) == "STOP"
    assert [ray.decide(event) for event in again] == ["CONTINUE"] * 3
    restarted = Ray(plan, [*recorded, stopped, *again[:2]])
    assert restarted.decide(again[2]) == "CONTINUE"


@pytest.mark.parametrize("scheduler", JUDGES)
def test_an_extended_search_judges_by_what_completed_trials_reported(scheduler: str) -> None:
    """Their last reports count at the rung that their old end has become."""
    reports = [
        report(f"t{index:04}", epoch, 0.9) for index in range(1, 60) for epoch in range(1, 9)
    ]
    longer = plan_with(scheduler, "search.grace_period=8", epochs=32)
    late = [report(newcomer(longer), epoch, 0.1) for epoch in range(1, 9)]
    ray = Ray(longer, reports)
    assert [ray.decide(event) for event in late] == ["CONTINUE"] * 7 + ["STOP"]
    assert ray.decide(report("t0001", 9, 0.9)) == "CONTINUE"


def test_the_median_is_one_of_means_that_count_each_epoch_once() -> None:
    """Ray alone counts a trial's last report twice, and a repeated epoch as well."""
    plan = plan_with("median")
    ray = Ray(plan)
    for name in ("t0001", "t0002", "t0003"):
        for epoch, accuracy in ((1, 0.2), (2, 0.2), (3, 0.8)):
            ray.decide(report(name, epoch, accuracy))
        ray.decide(report(name, 3, 0.8))  # it crashed and repeats the epoch
        ray.end(report(name, 3, 0.8))
    # The means are 0.4; with epoch 3 counted twice they would be 0.5.
    decisions = [ray.decide(report("t0004", epoch, 0.45)) for epoch in (1, 2, 3)]
    assert decisions == ["CONTINUE"] * 3
    decisions = [ray.decide(report("t0005", epoch, 0.35)) for epoch in (1, 2, 3)]
    assert decisions[-1] == "STOP"


def test_the_median_rule_never_pauses_a_trial_while_it_knows_too_little() -> None:
    ray = Ray(plan_with("median"))
    assert {ray.decide(report("t0001", epoch, 0.1)) for epoch in (1, 2, 3)} == {"CONTINUE"}
    assert ray.decide(report("t0002", 1, 0.9)) == "CONTINUE"


def test_hyperband_has_the_brackets_and_shares_that_the_forecast_shows() -> None:
    plan = plan_with("hyperband", epochs=27)
    scheduler = build_scheduler(plan)
    shown = brackets(plan)
    rungs = [tuple(epoch for epoch, _ in one._rungs)[::-1] for one in scheduler._brackets]
    assert rungs == [rungs for rungs, _ in shown]
    drawn = [0] * len(shown)
    for index in range(3000):
        trial = SimpleNamespace(config={"trial_id": f"t{index:04}"})
        scheduler.on_trial_add(None, trial)
        drawn[scheduler._brackets.index(scheduler._trial_info[f"t{index:04}"])] += 1
    shares = [share for _, share in shown]
    assert np.allclose(np.array(drawn) / 3000, shares, atol=0.03)


def test_a_population_stops_at_its_exchanges_only() -> None:
    ray = Ray(plan_with("pbt", "search.perturbation_interval=3"))
    stops = [e for e in range(1, EPOCHS + 1) if ray.decide(report("t0001", e, 0.1)) == "STOP"]
    assert stops == [3, 6]


def test_without_early_stopping_every_trial_goes_on() -> None:
    ray = Ray(plan_with("none"), [report("t0001", 1, 0.9)])
    assert ray.decide(report("t0002", 1, 0.0)) == "CONTINUE"


def halving_plan(*overrides: str, epochs: int = 27) -> Plan:
    values = ["search.scheduler=halving", "search.grace_period=1", f"train.max_epochs={epochs}"]
    return load_plan(None, [*values, *overrides])


class Halving(Ray):
    def says(self, name: str, epoch: int, accuracy: float, *, diverged: bool = False) -> str:
        return self.decide(report(name, epoch, accuracy, diverged=diverged))


def test_a_trials_own_report_counts_in_the_cutoff() -> None:
    judge = Halving(halving_plan())
    assert judge.says("t0001", 1, 0.5) == "CONTINUE"  # the best of one
    assert judge.says("t0002", 1, 0.4) == "STOP"  # not the best of two
    assert judge.says("t0003", 1, 0.6) == "CONTINUE"


def test_a_trial_that_passed_early_is_stopped_between_rungs_once_better_ones_came() -> None:
    judge = Halving(halving_plan())
    assert judge.says("t0001", 1, 0.5) == "CONTINUE"
    assert judge.says("t0001", 2, 0.9) == "CONTINUE"
    assert judge.says("t0002", 1, 0.6) == "CONTINUE"
    assert judge.says("t0001", 3, 0.9) == "STOP"


def test_one_that_the_rung_before_leaves_behind_takes_no_place_at_a_later_rung() -> None:
    judge = Halving(halving_plan())
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
    judge = Halving(halving_plan(f"search.metric={metric}"))
    rung = {1: 1, 2: 3, 4: 9}[epoch]
    for number in range(4):
        judge.says(f"t{number:04}", rung, 0.9 - number / 10)
    assert judge.says("t0010", rung, 0.85) == "STOP"  # the second of five
    assert judge.says("t0011", epoch, 0.0, diverged=True) == "STOP"
    assert judge.says("t0010", rung, 0.85) == "CONTINUE"  # of six


@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
def test_equals_go_on_together(metric: str) -> None:
    judge = Halving(halving_plan(f"search.metric={metric}"))
    assert {judge.says(f"t{number:04}", 1, 0.5) for number in range(9)} == {"CONTINUE"}
    assert judge.says("t0099", 1, 0.49) == "STOP"


def test_before_the_grace_period_nothing_is_stopped() -> None:
    judge = Halving(halving_plan("search.grace_period=3"))
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
    judge = Halving(halving_plan(epochs=27))
    values = {f"t{number:04}": [rng.random() for _ in range(27)] for number in range(count)}
    running = list(values)
    for epoch in range(1, 27):
        said = {name: judge.says(name, epoch, values[name][epoch - 1]) for name in running}
        if epoch not in (1, 3, 9):  # at a rung itself, some reported before others did
            running = [name for name in running if said[name] == "CONTINUE"]
    assert set(running) == synchronous(values, [1, 3, 9])


@given(st.data())
def test_what_was_recalled_decides_whatever_its_order(data: st.DataObject) -> None:
    plan = halving_plan(epochs=9)
    reports = [
        report(f"t{number:04}", epoch, data.draw(st.floats(0, 1)))
        for number in range(data.draw(st.integers(1, 12)))
        for epoch in (1, 2, 3)
    ]
    mixed = data.draw(st.permutations(sorted({event["trial_id"] for event in reports})))
    other = [event for name in mixed for event in reports if event["trial_id"] == name]
    first, second = Halving(plan), Halving(plan)
    for judge, order in ((first, reports), (second, other)):
        for event in order:
            judge.decide(event)
    for name in mixed:
        assert first.says(name, 4, 0.5) == second.says(name, 4, 0.5)
