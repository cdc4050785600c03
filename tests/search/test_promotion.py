"""Promotion: trials wait at rungs, the best go on; through a real Ray, and over a restart."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from report.searches import WrittenSearch
from search import objectives
from search.searching import events, searching, stopped_after, unbroken_search

from cifar_tune.record.results import Results
from cifar_tune.search.promotion import last_promoted, next_promoted, waits

RUNGS = ("search.scheduler=promote", "search.grace_period=1")
PLAN = (*RUNGS, "search.num_samples=9", "train.max_epochs=9")


def paused(search: WrittenSearch, accuracy: float, epoch: int = 1) -> str:
    """A trial that reports this accuracy in each epoch and waits at the last; its id."""
    name = search.create()
    for number in range(1, epoch + 1):
        going_on = {} if number < epoch else {"done": True, "paused": True}
        times = {"first_step_at": 1e9, "reported_at": 1e9 + number}
        metrics = {"epoch": number, "val_accuracy": accuracy, "val_loss": 1 - accuracy, **times}
        told = {"checkpoint": None, "done": False, "diverged": False, **going_on}
        search.write("result", trial_id=name, metrics=metrics, **told)
    return name


def next_of(search: WrittenSearch) -> str | None:
    trial = next_promoted(search.results, set(search.results.trials))
    return None if trial is None else trial.trial_id


def test_nobody_goes_on_for_having_come_first(tmp_path: Path) -> None:
    search = WrittenSearch(tmp_path, *PLAN)
    paused(search, 0.1)
    paused(search, 0.2)
    assert next_of(search) is None
    third = paused(search, 0.15)
    assert next_of(search) == "t0002", "the best of three, not the first"
    search.write("trial_started", trial_id="t0002", start=1)
    assert next_of(search) is None
    assert not waits(search.results.trials["t0002"])
    assert waits(search.results.trials[third])
    search.leave()


def test_the_latest_rung_goes_first_and_a_worse_trial_never(tmp_path: Path) -> None:
    search = WrittenSearch(tmp_path, *PLAN)
    for number in range(3):
        paused(search, 0.5 + 0.1 * number, epoch=3)
    assert next_of(search) == "t0003"
    for _ in range(3):
        paused(search, 0.1)
    search.write("trial_started", trial_id="t0003", start=1)
    assert next_of(search) is None, "of six at the first rung the best two were promoted already"
    paused(search, 0.9)
    assert next_of(search) == "t0007"
    search.leave()


def test_who_diverged_on_the_way_counts_as_one_that_came(tmp_path: Path) -> None:
    search = WrittenSearch(tmp_path, *PLAN)
    paused(search, 0.3)
    for _ in range(2):
        search.run([], "diverged")
    assert next_of(search) == "t0001"
    search.leave()


def test_the_best_of_too_few_goes_on_in_the_end_so_that_one_completes(tmp_path: Path) -> None:
    search = WrittenSearch(tmp_path, *PLAN)
    names = [paused(search, accuracy) for accuracy in (0.3, 0.4)]
    waiting = [search.results.trials[name] for name in names]
    last = last_promoted(search.results, waiting)
    assert last is not None
    assert last.trial_id == "t0002"
    search.run([0.2] * 9)
    assert last_promoted(search.results, waiting) is None
    search.leave()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Results:
    return unbroken_search(tmp_path_factory.mktemp("promotion") / "results", PLAN)


def check(results: Results) -> None:
    """Every epoch was trained once; at each rung nobody waits that is among its best third."""
    reported = [(e["trial_id"], e["metrics"]["epoch"]) for e in events(results, "result")]
    assert len(set(reported)) == len(reported)
    counts = results.counts()
    assert (counts["total"], counts["completed"] + counts["stopped"]) == (9, 9)
    assert counts["completed"] >= 1
    lengths = sorted(trial.epochs for trial in results.trials.values())
    assert set(lengths) <= {1, 3, 9}
    first = {name: t.results[1]["val_accuracy"] for name, t in results.trials.items()}
    best = sorted(first, key=lambda name: -first[name])[:3]
    assert all(results.trials[name].epochs > 1 for name in best)
    ended = [trial for trial in results.trials.values() if trial.status == "stopped"]
    assert all(trial.reason == f"not promoted at epoch {trial.epochs}" for trial in ended)


def test_a_search_promotes_the_best_third_of_each_rung(unbroken: Results) -> None:
    check(unbroken)
    trials = len(events(unbroken, "trial_started"))
    assert trials == 9 + sum(t.epochs > 1 for t in unbroken.trials.values()) + sum(
        t.epochs > 3 for t in unbroken.trials.values()
    )
    kept = [t for t in unbroken.trials.values() if t.checkpoints and t.status == "stopped"]
    assert not kept, "who is left behind keeps no checkpoint"


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("searcher", ["random", "tpe"])
def test_a_restart_in_the_middle_loses_and_repeats_nothing(searcher: str, tmp_path: Path) -> None:
    search = searching(tmp_path / "results")
    plan = (*PLAN, f"search.searcher={searcher}")
    with stopped_after(tmp_path / "results", 10):
        results, stop = search(*plan, objective=objectives.slow_with_file)
    assert stop.signal == signal.SIGTERM
    assert results.unfinished()
    results, stop = search(*plan, objective=objectives.with_file)
    assert stop.reason is None
    check(results)
