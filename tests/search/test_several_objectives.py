"""Searches with several objectives: what samplers learn, and what a restart may not change."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from search.studies import (
    ToldSearch,
    Values,
    accuracy_of,
    shown,
    shown_study,
    statuses_of_restarts,
)

from cifar_tune.record.front import front

AIMS = "search.objectives=[{val_accuracy: max}, {parameters: min}]"
SPACE = (
    "search.space={optim.lr: {loguniform: [1e-4, 10]}, optim.label_smoothing: {uniform: [0, 0.3]},"
    " model.width: {int: [1, 64]}}"
)


def width_of(values: Values) -> dict[str, float]:
    """Parameters that go with the width alone."""
    return {"parameters": 1000.0 * float(values["model.width"])}


def told(folder: Path, searcher: str, *overrides: str, **more: Any) -> ToldSearch:
    words = (f"search.searcher={searcher}", AIMS, SPACE, *overrides)
    return ToldSearch(folder, *words, beside=width_of, **more)


CONDITIONS = (
    "search.space={optim.name: {choice: [sgd, adamw]}, optim.lr: {loguniform: [1e-4, 10]},"
    " optim.momentum: {uniform: [0.5, 0.99], when: {optim.name: sgd}}, model.width: {int: [1, 64]}}"
)


@pytest.mark.parametrize(
    ("searcher", "space", "trials"),
    [("tpe", SPACE, 40), ("tpe", CONDITIONS, 30), ("gp", SPACE, 14)],
)
def test_a_search_that_is_restarted_before_every_trial_suggests_what_an_unbroken_one_does(
    searcher: str, space: str, trials: int, tmp_path: Path
) -> None:
    search = told(tmp_path / "a", searcher, space)
    assert statuses_of_restarts(search, trials, tmp_path / "b") >= {
        "completed", "stopped", "diverged",
    }  # fmt: skip


def volume_found(folder: Path, seed: int, sampler: Any = None) -> float:
    """What is missing of the volume below the best front: accuracy times parameters saved."""
    search = told(folder / str(seed), "tpe", f"seed={seed}", sampler=sampler)
    for _ in range(40):
        name = search.create()
        values = search.values(name)
        # Narrow networks are worse: a real trade-off.
        search.run(name, *[accuracy_of(values) - 0.3 / float(values["model.width"])] * 3)
    points = sorted(front(search.recorder.results).values(), key=lambda one: one[1])
    volume, before = 0.0, 0.0
    for accuracy, parameters in points:
        volume += max(0.0, accuracy - before) * (64 - parameters / 1000)
        before = max(before, accuracy)
    return volume


def test_tpe_finds_a_better_front_than_chance(tmp_path: Path) -> None:
    best, before = 0.0, 0.0
    for width in range(1, 64):
        best += (0.9 - 0.3 / width - before) * (64 - width)
        before = 0.9 - 0.3 / width
    learnt = [best - volume_found(tmp_path / "tpe", seed) for seed in range(4)]
    chance = [best - volume_found(tmp_path / "random", seed, RandomSampler) for seed in range(4)]
    assert sum(learnt) < 0.6 * sum(chance), (learnt, chance)


class Noting(RandomSampler):
    """Notes which trials a sampler is shown."""

    seen: list[FrozenTrial]

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        self.directions = study.directions
        self.seen = [one for one in study.get_trials() if one.number != trial.number]
        return {}


def test_a_sampler_is_shown_all_objectives_of_trials_that_ran_to_their_end(tmp_path: Path) -> None:
    sampler = Noting(seed=0)
    search = told(tmp_path, "my_code:factory", sampler=lambda _: sampler)
    values: Values = {"optim.lr": 0.1, "optim.label_smoothing": 0.1, "model.width": 8}
    search.complete(0.5, 0.7, 0.6, values=values)
    search.run(search.create(), 0.4, status="stopped")
    search.run(search.create(), 0.4, status="diverged")
    search.create()
    assert sampler.directions == [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    assert sampler.seen[0].values == [0.7, 8000.0]
    assert [one.values for one in sampler.seen[1:]] == [None, None]
    assert [one.state for one in sampler.seen[1:]] == [TrialState.PRUNED, TrialState.PRUNED]


def suggested_after(folder: Path, *, near: tuple[str, int], far: tuple[str, int]) -> list[Any]:
    """What tpe suggests for a field after 30 trials, `near` 0.25 and `far` from it: how they ended,
    and after how many epochs of nine."""
    search, rng = told(folder, "tpe", "train.max_epochs=9"), random.Random(0)
    for _ in range(30):
        smoothing = rng.uniform(0, 0.3)
        status, epochs = near if abs(smoothing - 0.25) < 0.04 else far
        drawn: Values = {
            "optim.lr": 10 ** rng.uniform(-4, 1), "optim.label_smoothing": smoothing,
            "model.width": rng.randint(1, 64),
        }  # fmt: skip
        search.run(search.create(drawn), *[0.5] * epochs, status=status)
    return [search.values(search.create())["optim.label_smoothing"] for _ in range(12)]


def test_tpe_ranks_what_was_stopped_by_how_far_it_came(tmp_path: Path) -> None:
    """Trials near one value went far before they were stopped, all others ended at once."""
    suggested = suggested_after(tmp_path, near=("stopped", 8), far=("stopped", 1))
    assert sum(abs(float(one) - 0.25) < 0.06 for one in suggested) >= 8, suggested


def test_what_diverged_late_is_no_good_sign(tmp_path: Path) -> None:
    """It came further than all that were stopped."""
    suggested = suggested_after(tmp_path, near=("diverged", 7), far=("stopped", 3))
    assert sum(abs(float(one) - 0.25) < 0.05 for one in suggested) <= 5, suggested


def test_the_worst_of_each_objective_stands_for_what_diverged(tmp_path: Path) -> None:
    """gp leaves pruned trials out; without a value it would try the same again."""
    search = told(tmp_path, "gp")
    for accuracy in (0.6, 0.8):
        search.complete(accuracy, accuracy, accuracy)
    search.run(search.create(), 0.3, status="diverged")
    widths = [float(one.values["model.width"]) for one in search.recorder.results.trials.values()]
    end = search.study._ends["t0003"]
    assert end.values == (0.6, 1000.0 * max(widths[:2]))


def test_the_dashboards_study_has_all_objectives(tmp_path: Path) -> None:
    search = told(tmp_path, "tpe")
    search.complete(0.2, 0.6, 0.5)
    search.run(search.create(), 0.1, 0.3, status="stopped")
    search.report(search.create(), 0.35)
    first, stopped, running = shown(tmp_path)
    width = float(search.values("t0001")["model.width"])
    assert first.values == [0.6, 1000.0 * width]
    assert (stopped.state, stopped.values) == (TrialState.PRUNED, None)
    assert stopped.intermediate_values == {1: 0.1, 2: 0.3}
    assert running.intermediate_values == {1: 0.35}
    study = shown_study(tmp_path)
    assert study.directions == [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    assert study.metric_names == ["val_accuracy", "parameters"]


def test_a_trial_without_a_figure_for_each_objective_has_failed_for_the_sampler(
    tmp_path: Path,
) -> None:
    sampler = Noting(seed=0)
    words = ("search.searcher=my_code:factory", AIMS, SPACE)
    search = ToldSearch(tmp_path, *words, sampler=lambda _: sampler)
    search.complete(0.2, 0.6, 0.5)
    search.create()
    assert [one.state for one in sampler.seen] == [TrialState.FAIL]
    assert shown(tmp_path)[0].state is TrialState.FAIL


def test_latency_is_not_waited_for(tmp_path: Path) -> None:
    """It is measured after the search, so that a sampler learns from the others."""
    sampler = Noting(seed=0)
    more = "search.objectives=[{val_accuracy: max}, {parameters: min}, {latency_ms: min}]"
    search = told(tmp_path, "my_code:factory", more, sampler=lambda _: sampler)
    search.complete(0.2, 0.6, 0.5)
    search.create()
    assert len(sampler.seen[0].values) == 2
