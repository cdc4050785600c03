"""Failures by kind and what is done about each, through a real Ray, with real crashes."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from search import objectives
from search.searching import Search, events, searching

from cifar_tune.record.results import Results

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture
def search(tmp_path: Path) -> Search:
    return searching(tmp_path / "results")


@pytest.fixture
def noting(tmp_path: Path) -> Callable[[Any], Any]:
    folder = tmp_path / "notes"
    folder.mkdir()
    return partial(objectives.noting, folder)


FULL = ("search.scheduler=none", "train.max_epochs=3")


def test_out_of_memory_is_tried_once_more_alone(
    search: Search, noting: Callable[[Any], Any], tmp_path: Path
) -> None:
    results, _ = search(*FULL, "search.num_samples=6", objective=noting(objectives.hungry))
    assert results.counts()["completed"] == 6
    retried = events(results, "trial_retried")
    assert [(e["trial_id"], e["kind"]) for e in retried] == [("t0002", "out of memory")]
    assert "MemoryError" in retried[0]["reason"]
    assert (tmp_path / "notes" / "beside-1").read_text() == "running-1"


def test_a_killed_process_is_tried_again_and_bad_data_is_not(
    search: Search, noting: Callable[[Any], Any]
) -> None:
    results, _ = search(*FULL, "search.num_samples=4", objective=noting(objectives.crashing))
    retried = [(e["trial_id"], e["kind"]) for e in events(results, "trial_retried")]
    assert retried == [("t0001", "lost process")]
    assert results.trials["t0001"].status == "completed"
    bad = results.trials["t0002"]
    assert (bad.status, bad.failures) == ("failed", ["data"])
    assert "image 7 is damaged" in bad.reason
    assert results.counts()["completed"] == 3


def test_a_trial_that_hangs_is_ended_and_the_others_go_on(search: Search) -> None:
    results, _ = search(
        *FULL, "search.num_samples=4", "search.trial_timeout=4", "search.max_failures=0",
        objective=objectives.hanging,
    )  # fmt: skip
    hung = results.trials["t0002"]
    assert (hung.status, hung.failures, hung.epochs) == ("failed", ["hung"], 1)
    assert "nothing reported for 4 s (--trial-timeout)" in hung.reason
    assert results.counts()["completed"] == 3


@pytest.mark.faults
def test_a_failed_trial_ends_the_search_only_if_asked(search: Search) -> None:
    given = (*FULL, "search.num_samples=5", "search.max_failures=0")
    results, stop = search(*given, "search.fail_fast=true", objective=objectives.failing)
    assert stop.reason == "t0002 failed, and --fail-fast was given"
    assert results.trials["t0002"].status == "failed"
    assert results.counts()["total"] < 5
    results, stop = search(*given, objective=objectives.failing)
    assert stop.reason is None
    assert results.counts()["failed"] == 2
    assert results.counts()["completed"] == 3


@pytest.mark.faults  # the test after it has it as well, and takes less for granted
def test_only_the_trials_that_are_asked_for_run(search: Search) -> None:
    given = (*FULL, "search.num_samples=4", "search.max_failures=0")
    results, _ = search(*given, objective=objectives.failing)
    assert results.counts()["failed"] == 2
    started = len(events(results, "trial_started"))
    results, stop = search(*given, objective=objectives.analytic, retry=["t0002"])
    again = events(results, "trial_started")[started:]
    assert [event["trial_id"] for event in again] == ["t0002"]
    assert results.trials["t0002"].status == "completed"
    assert results.trials["t0004"].status == "failed"
    assert stop.reason is None


def test_failed_trials_of_a_search_that_is_not_over_leave_the_rest_to_resume(
    search: Search,
) -> None:
    given = (*FULL, "search.num_samples=40", "search.max_failures=0")
    results, _ = search(*given, "search.fail_fast=true", objective=objectives.failing)
    # Mostly t0002; which trial fails first, and whether another does before the end, is chance.
    failed = [name for name, trial in results.trials.items() if trial.status == "failed"]
    assert failed
    results, stop = search(*given, objective=objectives.analytic, retry=failed)
    assert stop.reason == "only the failed trials were tried again"
    assert {results.trials[name].status for name in failed} == {"completed"}
    assert len(results.trials) < 40
    results, stop = search(*given, objective=objectives.analytic)
    assert stop.reason is None
    assert results.counts()["completed"] == 40


def ending_early(by: Callable[..., Any]) -> Callable[..., None]:
    """An objective whose seed 0 ends by this after two epochs, unless it goes on."""

    def objective(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
        if resume_from is None and run.seed == 0:
            short = run.model_copy(update={"train": run.train.model_copy(update={"max_epochs": 2})})
            objectives.with_file(short, data, reporter, None)
            by(short, data, reporter, None)
        objectives.with_file(run, data, reporter, resume_from)

    return objective


def epochs_of_the_first(results: Results) -> list[int]:
    reports = [e for e in events(results, "result") if e["trial_id"] == "t0001"]
    return [event["metrics"]["epoch"] for event in reports]


def test_a_failed_trial_is_tried_again_from_its_newest_checkpoint(search: Search) -> None:
    failing_late = ending_early(objectives.always_failing)
    given = (*FULL, "search.num_samples=2", "search.max_failures=0")
    results, _ = search(*given, objective=failing_late)
    assert results.trials["t0001"].status == "failed"
    results, _ = search(*given, objective=failing_late, retry=["t0001"])
    assert epochs_of_the_first(results) == [1, 2, 3]


def test_a_trial_that_comes_back_trains_on_from_its_newest_checkpoint(search: Search) -> None:
    killed_once = ending_early(lambda *_: os.kill(os.getpid(), 9))
    results, _ = search(*FULL, "search.num_samples=2", objective=killed_once)
    assert epochs_of_the_first(results) == [1, 2, 3]
