"""ASHA across a restart, on recorded reports; no Ray process is needed for that."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from cifar_tune.load import load_plan
from cifar_tune.search.schedulers import build_scheduler, refill

Report = tuple[str, int, float]


def simulated_reports(trials: int, epochs: int, seed: int) -> list[Report]:
    """Reports of trials that run two at a time and never stop, in the order they come in."""
    rng = random.Random(seed)
    quality = {f"t{index:04}": rng.random() for index in range(1, trials + 1)}
    waiting, running, reports = list(quality), {}, []
    while waiting or running:
        while waiting and len(running) < 2:
            running[waiting.pop(0)] = 0
        name = rng.choice(sorted(running))
        running[name] += 1
        reports.append((name, running[name], quality[name] + rng.gauss(0, 0.1)))
        if running[name] == epochs:
            del running[name]
    return reports


def decide(scheduler: Any, names: dict[str, Any], report: Report) -> str:
    name, epoch, accuracy = report
    if name not in names:
        names[name] = SimpleNamespace(trial_id=f"ray-{id(names)}-{name}", config={"trial_id": name})
        scheduler.on_trial_add(None, names[name])
    result = {"epoch": epoch, "val_accuracy": accuracy, "val_loss": 1 - accuracy}
    return str(scheduler.on_trial_result(None, names[name], result))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_decisions_after_a_restart_are_those_of_an_unbroken_run(seed: int, part: float) -> None:
    plan = load_plan(None, ["search.reduction_factor=2", "train.max_epochs=8"])
    reports = simulated_reports(20, 8, seed)
    unbroken, names = build_scheduler(plan), {}
    stopped: set[str] = set()
    kept: list[Report] = []
    decisions = []
    for report in reports:
        if report[0] in stopped:
            continue
        decision = decide(unbroken, names, report)
        stopped |= {report[0]} if decision == "STOP" else set()
        kept.append(report)
        decisions.append(decision)
    cut = int(part * len(kept))
    events = [
        {
            "trial_id": name,
            "metrics": {"epoch": epoch, "val_accuracy": value, "val_loss": 1 - value},
        }
        for name, epoch, value in kept[:cut]
    ]
    restarted, names = build_scheduler(plan), {}
    refill(restarted, events)
    assert [decide(restarted, names, report) for report in kept[cut:]] == decisions[cut:]
    assert "STOP" in decisions[cut:]


def test_a_fresh_scheduler_would_decide_otherwise() -> None:
    """Without the refill the test above could not pass: it is what it tests."""
    plan = load_plan(None, ["search.reduction_factor=2", "train.max_epochs=8"])
    good = [(f"t{index:04}", 1, 0.9) for index in range(1, 9)]
    bad: Report = ("t0009", 1, 0.1)
    filled = build_scheduler(plan)
    refill(
        filled,
        [
            {"trial_id": n, "metrics": {"epoch": e, "val_accuracy": v, "val_loss": 0.1}}
            for n, e, v in good
        ],
    )
    assert decide(filled, {}, bad) == "STOP"
    assert decide(build_scheduler(plan), {}, bad) == "CONTINUE"


def test_without_early_stopping_every_trial_goes_on() -> None:
    scheduler = build_scheduler(load_plan(None, ["search.scheduler=none"]))
    refill(scheduler, [])
    assert decide(scheduler, {}, ("t0001", 1, 0.0)) == "CONTINUE"
