"""Trials of two workers through a real Ray: stopped early, killed, and gone on with."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from search import objectives
from search.searching import Search, events, searching, stopped_after
from toy_images import toy_data

from cifar_tune.record.results import Results

pytestmark = pytest.mark.usefixtures("ray_session")

GIVEN = (
    "resources.workers_per_trial=2", "data.batch_size=4", "data.val_size=4", "model.name=net",
    "search.space={optim.lr: {uniform: [0.01, 0.02]}}", "train.precision=32",
)  # fmt: skip


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the trials write down the processes of their workers."""
    folder = tmp_path / "notes"
    folder.mkdir()
    monkeypatch.setenv("CIFAR_TUNE_TEST_NOTES", str(folder))
    return folder


@pytest.fixture
def search(tmp_path: Path, notes: Path) -> Search:
    """Runs, or goes on with, a search whose trials train for real, with two workers each."""

    data = toy_data(64, 16)

    def train(run: Any, _: Any, reporter: Any, resume_from: Path | None) -> None:
        objectives.trained(run, data, reporter, resume_from)

    objective = objectives.noting(notes, train)
    run = searching(tmp_path / "results")
    return lambda *given: partial(run, objective=objective)(*GIVEN, *given)


def check_epochs(results: Results, name: str, epochs: int) -> None:
    """All epochs up to this one were reported, and none of them twice."""
    reported = Counter(
        event["metrics"]["epoch"]
        for event in events(results, "result")
        if event["trial_id"] == name
    )
    assert reported == dict.fromkeys(range(1, epochs + 1), 1)


def check_that_no_worker_is_left(notes: Path, trials: int) -> None:
    """Each trial had a second worker, which was gone when the next trial began."""
    workers = objectives.noted_workers()
    assert len(workers) == trials
    deadline = time.monotonic() + 30  # the last one's end is not waited for
    while any(map(objectives.alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(objectives.alive, workers))
    assert not list(notes.glob("left-*"))


@pytest.mark.faults
def test_of_four_trials_in_a_row_two_are_stopped_early_and_none_keeps_its_workers(
    search: Search, notes: Path
) -> None:
    results, stop = search(
        "search.num_samples=4", "train.max_epochs=3", "search.reduction_factor=2"
    )
    assert stop.reason is None
    assert [trial.status for trial in results.trials.values()] == [
        "completed", "stopped", "completed", "stopped",
    ]  # fmt: skip
    for name, trial in results.trials.items():
        check_epochs(results, name, 3 if trial.status == "completed" else 1)
    best = results.best()
    assert best is not None
    assert best.trial_id == "t0003"
    assert (results.folder / best.checkpoints[3]).is_file()
    check_that_no_worker_is_left(notes, trials=4)


@pytest.mark.faults
def test_a_trial_goes_on_after_a_signal_and_after_the_death_of_a_worker(
    search: Search, notes: Path, tmp_path: Path
) -> None:
    given = ("search.num_samples=2", "train.max_epochs=400", "search.scheduler=none")
    with stopped_after(tmp_path / "results", 3):
        results, stop = search(*given)
    epochs = results.trials["t0001"].epochs
    assert stop.reason is not None
    assert 3 <= epochs < 400
    (notes / "kill-1-1").touch()
    results, stop = search(*given[:1], f"train.max_epochs={epochs + 2}", *given[2:])
    assert stop.reason is None
    assert results.counts()["completed"] == 2
    for name in results.trials:
        check_epochs(results, name, epochs + 2)
    (retried,) = events(results, "trial_retried")
    assert retried["trial_id"] == "t0002"
    assert "worker 1 died with exit code -9" in retried["traceback"]
    check_that_no_worker_is_left(notes, trials=4)


@pytest.mark.faults
def test_the_workers_of_a_killed_trial_end_and_it_goes_on(search: Search, notes: Path) -> None:
    (notes / "kill-0-0").touch()
    results, stop = search("search.num_samples=1", "train.max_epochs=3", "search.scheduler=none")
    assert stop.reason is None
    check_epochs(results, "t0001", 3)
    assert [event["kind"] for event in events(results, "trial_retried")] == ["lost process"]
    check_that_no_worker_is_left(notes, trials=2)
