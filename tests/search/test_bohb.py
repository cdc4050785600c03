"""BOHB's rule: which budget it learns at, what it is shown there, and that it beats random search."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState
from search.remembered import InMemory
from search.studies import ToldSearch, Values
from search.test_study import QUADRATIC, Noting, noted, points
from told import Story

from cifar_tune.plan.load import load_plan
from cifar_tune.record.trials import ENDED, id_of
from cifar_tune.search.bohb import BohbStudy
from cifar_tune.search.configurations import Configurations
from cifar_tune.search.schedulers import build_scheduler
from cifar_tune.search.study import sampler_of

ENOUGH = 5  # reports at a budget, in a space of two fields
COMPLETE, FAIL = TrialState.COMPLETE, TrialState.FAIL
PRUNED, RUNNING = TrialState.PRUNED, TrialState.RUNNING
GIVEN = (
    "search.searcher=bohb",
    "search.scheduler=hyperband",
    "train.max_epochs=9",
    "search.grace_period=1",
    QUADRATIC,
)


@pytest.fixture
def sampler() -> Noting:
    return Noting()


@pytest.fixture
def search(tmp_path: Path, sampler: Noting) -> ToldSearch:
    """Its rungs are epochs 1 and 3."""
    return ToldSearch(tmp_path, *GIVEN, sampler=lambda seed: sampler)


def shown(search: ToldSearch, sampler: Noting) -> list[tuple[TrialState, float | None]]:
    """State and value of each trial as the sampler is shown it, without those created to ask it."""
    seen, trials = noted(search, sampler), search.recorder.results.trials.values()
    return [
        (one.state, one.value)
        for one, trial in zip(seen, trials, strict=False)
        if trial.results or trial.status in ENDED
    ]


def test_it_learns_at_the_last_rung_where_enough_have_reported(
    search: ToldSearch, sampler: Noting
) -> None:
    names = [search.create() for _ in range(ENOUGH + 1)]
    for number, name in enumerate(names[:-2]):
        search.report(name, number / 10)
    assert {state for state, _ in shown(search, sampler)} == {RUNNING}
    search.report(names[-2], 0.4)
    search.report(names[-1], 0.5)
    first = [(COMPLETE, number / 10) for number in range(ENOUGH + 1)]
    assert shown(search, sampler) == first
    for name in names[1:]:
        search.report(name, 0.6)  # epoch 2 is no rung
    for number, name in enumerate(names[1:-1], 1):
        search.report(name, 0.7 + number / 100)
    assert shown(search, sampler) == first
    search.report(names[-1], 0.75)
    assert shown(search, sampler) == [
        (RUNNING, None), *((COMPLETE, 0.7 + number / 100) for number in range(1, ENOUGH + 1)),
    ]  # fmt: skip


def test_few_that_trained_longer_do_not_outvote_many(search: ToldSearch, sampler: Noting) -> None:
    for accuracies in ((0.1, *[0.9] * 8), (0.3, 0.8, 0.8), (0.5,), (0.6,), (0.4,)):
        name = search.create()
        search.run(name, *accuracies, status="completed" if len(accuracies) == 9 else "stopped")
    assert shown(search, sampler) == [(COMPLETE, value) for value in (0.1, 0.3, 0.5, 0.6, 0.4)]


def test_below_the_budget_a_stopped_trial_ranks_behind_and_a_failed_one_tells_nothing(
    search: ToldSearch, sampler: Noting
) -> None:
    for status in ("diverged", "failed"):
        search.run(search.create(), status=status)
    assert [state for state, _ in shown(search, sampler)] == [FAIL, FAIL]
    for _ in range(ENOUGH):
        search.run(search.create(), 0.2, 0.3, 0.4, status="stopped")
    search.run(search.create(), 0.1, status="stopped")
    states = [state for state, _ in shown(search, sampler)]
    assert states == [PRUNED, FAIL, *[COMPLETE] * ENOUGH, PRUNED]
    assert [len(one.intermediate_values) for one in sampler.seen if one.state is PRUNED] == [0, 1]


def test_an_earlier_searchs_reports_count(tmp_path: Path) -> None:
    sampler = Noting()
    known = {"source": "first", "points": [], "trials": points(ENOUGH)}
    search = ToldSearch(tmp_path, *GIVEN, sampler=lambda seed: sampler, known=known)
    seen = noted(search, sampler)
    assert [one.value for one in seen] == [trial["results"][2][1] for trial in points(ENOUGH)]


def test_before_there_is_enough_results_change_nothing(tmp_path: Path) -> None:
    good, bad = (ToldSearch(tmp_path / name, *GIVEN) for name in ("good", "bad"))
    for number in range(ENOUGH + 1):
        suggested = [one.values(one.create()) for one in (good, bad)]
        assert (suggested[0] == suggested[1]) is (number < ENOUGH)
        good.run(id_of(number), 0.1 * number, status="stopped")
        bad.run(id_of(number), 1 - 0.1 * number, status="stopped")


FOUR_FIELDS = (
    "search.space={optim.lr: {loguniform: [1e-4, 10]}, optim.weight_decay: {loguniform: [1e-6, 1]},"
    " optim.momentum: {uniform: [0, 0.9]}, optim.label_smoothing: {uniform: [0, 0.9]}}"
)


def regret(values: Values) -> float:
    """A bowl, 0 at lr 0.1, weight decay 1e-3, momentum 0.6 and label smoothing 0.3."""
    numbers = {field: float(str(value)) for field, value in values.items()}
    rate = math.log10(numbers["optim.lr"] / 0.1) / 5
    decay = math.log10(numbers["optim.weight_decay"] / 1e-3) / 6
    momentum = (numbers["optim.momentum"] - 0.6) / 0.9
    smoothing = (numbers["optim.label_smoothing"] - 0.3) / 0.9
    return rate**2 + decay**2 + momentum**2 + smoothing**2


def best_regret(folder: Path, searcher: str, seed: int) -> float:
    """That of the winner of 40 trials, four at once under Hyperband, as Ray would run them."""
    words = [f"search.searcher={searcher}", "search.num_samples=40", f"seed={seed}", FOUR_FIELDS]
    plan = load_plan(None, [*GIVEN, *words])
    scheduler, study = build_scheduler(plan), Configurations(plan)
    if searcher == "bohb":
        study = BohbStudy(plan, folder, sampler_of(plan))
    story = Story(InMemory(plan, study.observe))
    results, running = story.recorder.results, list[Any]()
    while len(results.trials) < 40 or running:
        index = len(results.trials)
        if len(running) < 4 and index < 40:
            name = story.create(study.suggest(index, {}))
            running.append(SimpleNamespace(config={"trial_id": name}))
            scheduler.on_trial_add(None, running[-1])
            continue
        trial = running.pop(0)
        record = results.trials[trial.config["trial_id"]]
        epoch = record.epochs + 1
        accuracy = 1 - regret(record.values) - 0.5 * math.exp(-epoch / 3)
        told = {"epoch": epoch, "val_accuracy": accuracy, "diverged": False}
        decision = scheduler.on_trial_result(None, trial, told)
        story.report(record.trial_id, epoch, accuracy, done=decision == "STOP")
        if decision != "STOP":
            running.append(trial)
    best = results.best()
    assert best is not None
    return regret(best.values)


def test_it_beats_random_search_under_the_same_scheduler(tmp_path: Path) -> None:
    regrets = {
        searcher: [best_regret(tmp_path, searcher, 1000 * seed) for seed in range(8)]
        for searcher in ("bohb", "random")
    }
    assert statistics.median(regrets["bohb"]) < 0.6 * statistics.median(regrets["random"])
