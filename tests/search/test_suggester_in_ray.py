"""Every way to search, through a real Ray; and what a model-based one knows after a restart."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest
from search import objectives
from search.searching import Search, events, searching, stopped_after
from search.studies import shown

from cifar_tune.errors import PlanError

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture
def search(tmp_path: Path) -> Search:
    return searching(tmp_path / "results")


@pytest.mark.parametrize(
    ("searcher", "scheduler"), [("sobol", "hyperband"), ("gp", "none"), ("random", "median")]
)
def test_a_search_runs_to_its_end(search: Search, searcher: str, scheduler: str) -> None:
    given = [f"search.searcher={searcher}", f"search.scheduler={scheduler}"]
    results, stop = search(*given, "search.num_samples=12", "train.max_epochs=4")
    counts = results.counts()
    assert stop.reason is None
    assert counts["completed"] + counts["stopped"] == counts["total"] == 12
    best = results.best()
    assert best is not None
    assert best.epochs == 4


def test_what_early_stopping_ended_is_pruned_for_the_model(search: Search) -> None:
    given = ["search.searcher=tpe", "search.num_samples=8", "search.max_failures=0"]
    results, _ = search(*given, objective=objectives.worsening)
    trials = shown(results.folder)
    states = {trial.user_attrs["trial_id"]: trial.state.name for trial in trials}
    words = {"completed": "COMPLETE", "stopped": "PRUNED", "failed": "FAIL"}
    assert states == {name: words[trial.status] for name, trial in results.trials.items()}
    assert {"COMPLETE", "PRUNED", "FAIL"} == set(states.values())
    for trial in trials:
        recorded = results.trials[trial.user_attrs["trial_id"]].results
        if trial.state.name == "PRUNED":
            assert trial.intermediate_values == {e: m["val_accuracy"] for e, m in recorded.items()}


def test_a_restart_leaves_no_stale_trial_and_ends_with_all_of_them(
    search: Search, tmp_path: Path
) -> None:
    given = ["search.searcher=tpe", "search.num_samples=14", "search.scheduler=none", "train.max_epochs=4"]  # fmt: skip
    with stopped_after(tmp_path / "results", 20):
        _, stop = search(*given, objective=objectives.slow)
    assert stop.signal == signal.SIGTERM
    results, stop = search(*given, objective=objectives.analytic)
    assert stop.reason is None
    trials = shown(results.folder)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 14
    assert [trial.user_attrs["trial_id"] for trial in trials] == list(results.trials)


@pytest.mark.faults
def test_a_small_space_is_searched_once_and_then_the_search_is_over(search: Search) -> None:
    results, stop = search(
        "search.searcher=tpe", "search.num_samples=40", "train.max_epochs=1",
        "search.space={optim.lr: {choice: [0.1, 0.2, 0.3]}, data.batch_size: {choice: [64, 128]}}",
    )  # fmt: skip
    assert stop.reason is None
    assert results.counts()["completed"] == 6
    assert len({tuple(trial.values.items()) for trial in results.trials.values()}) == 6


def test_known_good_points_come_first_and_their_results_are_learnt_from(search: Search) -> None:
    point = {"optim.lr": 0.11, "data.batch_size": 64}
    told = [
        {"values": {"optim.lr": 0.05 * n, "optim.weight_decay": 1e-3, "optim.label_smoothing": 0.1, "data.batch_size": 64}, "status": "completed", "results": [[1, 0.4], [2, 0.5 + n / 100]]}
        for n in range(1, 6)
    ]  # fmt: skip
    known = {"source": "before", "points": [point], "trials": told}
    results, _ = search(
        "search.searcher=tpe", "search.num_samples=3", "train.max_epochs=1", known=known
    )
    first = results.trials["t0001"].values
    assert {field: first[field] for field in point} == point
    assert len(first) == 4
    trials = shown(results.folder)
    assert len([trial for trial in trials if trial.user_attrs.get("from") == "before"]) == 5


OWN = """
import optuna
from ray.tune.search import ConcurrencyLimiter, Searcher

def sampler(plan):
    return optuna.samplers.RandomSampler(seed=plan.seed)

class Fixed(Searcher):
    def suggest(self, trial_id):
        return {"optim.lr": 0.1, "optim.weight_decay": 1e-3, "optim.label_smoothing": 0.0, "data.batch_size": 64}
    def on_trial_complete(self, trial_id, result=None, error=False):
        pass

def searcher(plan):
    return Fixed(metric=plan.search.metric, mode=plan.search.mode)

class Broken(Fixed):
    def suggest(self, trial_id):
        raise KeyError("the third bolt")

def broken(plan):
    return Broken(metric=plan.search.metric, mode=plan.search.mode)

class Deaf(Fixed):
    def on_trial_complete(self, trial_id, result=None, error=False):
        raise ValueError("I can't hear")

def deaf(plan):
    return Deaf(metric=plan.search.metric, mode=plan.search.mode)

def one_at_a_time(plan):
    return ConcurrencyLimiter(searcher(plan), max_concurrent=1)

def nothing(plan):
    return 7
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_search.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize("factory", ["sampler", "searcher"])
def test_a_searcher_of_the_users_own_takes_part(search: Search, factory: str) -> None:
    given: list[Any] = [f"search.searcher=my_search:{factory}", "search.num_samples=3"]
    results, stop = search(*given, "train.max_epochs=1")
    assert stop.reason is None
    assert results.counts()["completed"] == 3
    if factory == "searcher":
        assert {trial.values["optim.lr"] for trial in results.trials.values()} == {0.1}


@pytest.mark.usefixtures("own_module")
def test_a_searcher_that_raises_is_named(search: Search) -> None:
    _, stop = search("search.searcher=my_search:broken", "search.num_samples=3")
    assert re.search(r"it raised KeyError: 'the third bolt' .*my_search.py", str(stop.error))


@pytest.mark.usefixtures("own_module")
def test_a_searcher_that_can_not_take_in_results_ends_the_search_and_is_named(
    search: Search,
) -> None:
    given = ["search.searcher=my_search:deaf", "search.num_samples=30", "train.max_epochs=1"]
    results, stop = search(*given)
    assert "it raised ValueError: I can't hear" in str(stop.error)
    assert 0 < results.counts()["total"] < 30


@pytest.mark.usefixtures("own_module")
def test_a_searcher_that_waits_for_a_trial_which_waits_to_run_alone_does_not_wait_for_ever(
    search: Search, tmp_path: Path
) -> None:
    hungry = objectives.noting(tmp_path, objectives.hungry)
    given = ["search.searcher=my_search:one_at_a_time", "search.num_samples=3", "seed=1"]
    results, stop = search(*given, "train.max_epochs=1", objective=hungry)
    assert stop.reason is None
    assert results.counts()["completed"] == 3
    assert [e["kind"] for e in events(results, "trial_retried")] == ["out of memory"]


@pytest.mark.usefixtures("own_module")
def test_a_factory_that_makes_something_else_is_refused(search: Search) -> None:
    with pytest.raises(PlanError, match=r"which made int; it must return an optuna"):
        search("search.searcher=my_search:nothing")
