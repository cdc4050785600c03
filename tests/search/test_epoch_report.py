"""Which epochs of a training are written as checkpoints, and which are held in memory until then."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from search.searching import events, searching
from toy_images import toy_data, toy_run

from cifar_tune.files import STATE_KEY
from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import load_plan
from cifar_tune.record.ranking import best_epoch
from cifar_tune.search.epoch_report import EpochReport
from cifar_tune.search.trainable import fit_objective
from cifar_tune.train.fit import fit

CURVE = (0.2, 0.5, 0.3, 0.4, 0.1, 0.3)


def written(plan: Plan, folder: Path) -> dict[int, set[int]]:
    """The epochs whose checkpoints came with each report that had some, by the report's epoch."""
    found: dict[int, set[int]] = {}

    def note(metrics: dict[str, float], *, checkpoint: Any = None, **more: Any) -> None:
        if checkpoint is None:
            return
        epoch = int(metrics["epoch"])
        place = folder / f"{epoch}"
        shutil.copytree(checkpoint.path, place)
        states = {path.name: torch.load(path, weights_only=True) for path in place.iterdir()}
        epochs = {name: int(x[STATE_KEY]["epoch_metrics"]["epoch"]) for name, x in states.items()}
        assert epochs.get("best.ckpt") == more["best_epoch"]
        assert epochs["model.ckpt"] == epoch
        found[epoch] = set(epochs.values())

    report = EpochReport(plan, lambda: None, note)
    # The figure that decides is made up; all else is a training's.
    improves = report._improves
    report._improves = lambda m: improves({"val_accuracy": CURVE[int(m["epoch"]) - 1]})  # type: ignore[method-assign]
    fit(toy_run(len(CURVE), model__name="net"), toy_data(32, 16), callbacks=[report])
    return found


def plan_with(*given: str) -> Plan:
    plan: Plan = load_plan(None, [f"train.max_epochs={len(CURVE)}", *given])
    return plan


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), {epoch: {epoch} for epoch in range(1, 7)}),
        (("search.checkpoint_every_epochs=4",), {1: {1}, 2: {2}, 4: {4}, 6: {6}}),
        (
            ("search.checkpoint_every_seconds=999", "search.scheduler=none"),
            {6: {2, 6}},
        ),
        (
            ("search.checkpoint_every_seconds=999", "search.grace_period=4"),
            {4: {2, 4}, 6: {6}},
        ),
        (
            ("search.checkpoint_every_seconds=999", "search.scheduler=pbt"),
            {2: {2}, 4: {4}, 6: {6}},
        ),
        (
            ("search.checkpoint_every_seconds=999", "search.scheduler=median"),
            {epoch: {epoch} for epoch in range(1, 7)},
        ),
        (
            ("search.checkpoint_every_seconds=999", "search.time_budget=9h"),
            {epoch: {epoch} for epoch in range(1, 7)},
        ),
    ],
    ids=["each", "every fourth", "the end", "rungs", "exchanges", "median", "time budget"],
)
def test_an_epoch_that_a_trial_may_be_judged_by_is_written_before_it_can_end(
    given: tuple[str, ...], expected: dict[int, set[int]], tmp_path: Path
) -> None:
    assert written(plan_with(*given), tmp_path) == expected


@pytest.mark.faults
@pytest.mark.usefixtures("ray_session")
def test_a_trial_whose_best_epoch_was_held_in_memory_is_killed_and_loses_nothing(
    tmp_path: Path,
) -> None:
    data, killed = toy_data(), tmp_path / "killed"

    def train(run: Any, _: Any, reporter: Any, resume_from: Path | None) -> None:
        report = reporter.report

        def report_and_die_once(metrics: Any, **more: Any) -> None:
            report(metrics, **more)
            if metrics["epoch"] == 3 and not killed.exists():
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        reporter.report = report_and_die_once
        fit_objective(run, data, reporter, resume_from)

    results, stop = searching(tmp_path / "results")(
        "search.num_samples=2", "train.max_epochs=6", "search.scheduler=none", "train.precision=32",
        "search.checkpoint_every_seconds=999", "data.batch_size=16", "model.name=net",
        "search.space={optim.lr: {uniform: [0.01, 0.02]}}", objective=train,
    )  # fmt: skip
    assert stop.reason is None
    assert len(events(results, "trial_retried")) == 1
    for trial in results.trials.values():
        assert list(trial.results) == [1, 2, 3, 4, 5, 6]
    best = results.best()
    assert best is not None
    epoch = best_epoch(best, results.plan.search)
    state = torch.load(results.folder / best.checkpoints[epoch], weights_only=True)
    assert state[STATE_KEY]["epoch_metrics"]["epoch"] == epoch
