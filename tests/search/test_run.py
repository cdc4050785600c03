"""Whole searches through a real Ray, with objectives that take no time."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from search import objectives
from search.searching import Search, searching

from cifar_tune.errors import StorageError
from cifar_tune.record.journal import Journal
from cifar_tune.record.recorder import Recorder
from cifar_tune.record.results import Results
from cifar_tune.search.checkpoints import tidy

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture
def search(tmp_path: Path) -> Search:
    """Runs, or goes on with, a search in `tmp_path` under `--set` values."""
    return searching(tmp_path)


def test_asha_runs_all_trials_in_reused_processes_and_stops_the_losers_at_rungs(
    search: Search, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    results, stop = search(
        "search.num_samples=9", objective=objectives.noting(notes, objectives.noted)
    )
    counts = results.counts()
    assert stop.reason is None
    assert counts["total"] == 9
    assert counts["completed"] >= 1
    assert counts["stopped"] >= 3
    assert counts["completed"] + counts["stopped"] == 9
    assert {t.epochs for t in results.trials.values() if t.status == "stopped"} <= {1, 3}
    assert [*results.trials] == [f"t{number:04}" for number in range(1, 10)]
    assert [trial.seed for trial in results.trials.values()] == list(range(9))
    best = results.best()
    assert best is not None
    assert best.epochs == 9
    names = [path.name.split("-") for path in notes.iterdir()]
    assert len(names) == 9
    assert len({process for _, process in names}) <= 2


def test_a_failing_trial_is_tried_again_then_failed_with_its_reason(search: Search) -> None:
    results, _ = search("search.num_samples=4", objective=objectives.failing)
    counts = results.counts()
    assert counts["failed"] == 2
    assert counts["completed"] + counts["stopped"] == 2
    assert "the third bolt is loose" in results.trials["t0002"].reason
    lines = (results.folder / "journal.jsonl").read_text().splitlines()
    started = [json.loads(line) for line in lines if '"trial_started"' in line]
    assert [event["trial_id"] for event in started].count("t0002") == 2


def test_a_trial_that_never_reports_is_failed(search: Search) -> None:
    results, _ = search("search.num_samples=2", objective=objectives.silent)
    assert {trial.status for trial in results.trials.values()} == {"failed"}
    assert results.best() is None


def test_a_diverged_trial_ends_at_once_and_never_leads(search: Search) -> None:
    results, _ = search("search.num_samples=4", objective=objectives.diverging)
    diverged = [trial for trial in results.trials.values() if trial.status == "diverged"]
    assert diverged
    assert all(trial.seed % 2 and trial.epochs == 2 for trial in diverged)
    best = results.best()
    assert best is not None
    assert best.seed % 2 == 0


def test_a_time_budget_stops_the_search_and_leaves_it_resumable(search: Search) -> None:
    overrides = ("search.num_samples=40", "search.scheduler=none")
    started = time.monotonic()
    results, stop = search(*overrides, "search.time_budget=4", objective=objectives.slow)
    assert stop.reason == "time budget"
    assert time.monotonic() - started < 30
    assert 0 < results.counts()["total"] < 40
    assert results.counts()["running"] == 0


@pytest.mark.faults  # tests/session/test_start.py has it with real processes
def test_a_signal_stops_the_search_and_a_second_start_ends_it(search: Search) -> None:
    overrides = ("search.num_samples=12", "search.scheduler=none", "train.max_epochs=5")
    timer = threading.Timer(4.0, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    results, stop = search(*overrides, objective=objectives.slow)
    assert stop.signal == signal.SIGTERM
    done = {name: trial.epochs for name, trial in results.trials.items()}
    results, stop = search(*overrides, objective=objectives.analytic)
    assert stop.reason is None
    assert results.counts()["completed"] == 12
    assert all(results.trials[name].epochs >= epochs for name, epochs in done.items())
    assert len(results.starts) == 2


def test_a_search_that_is_done_starts_nothing_again(search: Search) -> None:
    results, _ = search("search.num_samples=2", "train.max_epochs=1")
    events = results.events
    results, stop = search("search.num_samples=2", "train.max_epochs=1")
    assert stop.reason is None
    assert results.events == events


def test_a_full_disk_ends_the_search_with_what_was_acknowledged(
    search: Search, tmp_path: Path
) -> None:
    import resource

    # A real limit of the kernel: writes beyond it fail as on a full disk (EFBIG).
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(StorageError, match=r"can't be written.*resume"):
            search("search.num_samples=40", "search.scheduler=none")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    results = Results.read(tmp_path)
    assert results.epochs_run > 10


def test_tidy_leaves_nothing_of_rays(search: Search, tmp_path: Path) -> None:
    search("search.num_samples=2", "train.max_epochs=1")
    with Journal(tmp_path) as journal:
        tidy(Recorder(journal))
    assert not any((tmp_path / "ray").iterdir())


def test_the_driver_imports_no_tracker_to_count_callbacks(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = "ray.air.integrations.wandb"  # imports wandb: 1.2 s before the first trial
    monkeypatch.delitem(sys.modules, tracker, raising=False)
    results, _ = search("search.num_samples=1", "search.scheduler=none")
    assert results.counts()["completed"] == 1
    assert tracker not in sys.modules
