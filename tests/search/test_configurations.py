"""Grid, random and Sobol configurations: functions of seed and index, and how even they lie."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import load_plan, plan_from
from cifar_tune.plan.points import lies_in
from cifar_tune.record.journal import Journal
from cifar_tune.record.recorder import Recorder
from cifar_tune.search.configurations import Configurations

SQUARE = {
    "optim.lr": {"loguniform": [0.001, 1.0]},
    "optim.label_smoothing": {"uniform": [0.0, 0.5]},
    "optim.momentum": {"uniform": [0.0, 0.9]},
}
CONDITIONAL = {
    "optim.name": {"choice": ["sgd", "adamw"]},
    "optim.momentum": {"uniform": [0.8, 0.98], "when": {"optim.name": "sgd"}},
    "model.width": {"pow2": [4, 64]},
    "data.cutout": {"int": [0, 12]},
}
WITH_GRID = {**SQUARE, "optim.nesterov": {"grid": [True, False]}, "model.width": {"grid": [8, 16]}}


def plan_of(searcher: str, space: object, count: int = 64, seed: int = 0) -> Plan:
    search = {"searcher": searcher, "num_samples": count, "space": space}
    return plan_from({"search": search, "seed": seed}, "the test")


def parts(configurations: list[dict[str, float]]) -> np.ndarray:
    """The places of the square's configurations between its bounds, from 0 to 1."""
    rows = [
        (
            math.log(values["optim.lr"] / 0.001) / math.log(1000),
            values["optim.label_smoothing"] / 0.5,
            values["optim.momentum"] / 0.9,
        )
        for values in configurations
    ]
    return np.array(rows)


@pytest.mark.parametrize("searcher", ["random", "sobol"])
@pytest.mark.parametrize("space", [SQUARE, CONDITIONAL, WITH_GRID])
def test_a_configuration_is_the_same_in_any_order_and_after_a_restart(
    searcher: str, space: dict[str, object]
) -> None:
    in_order = list(Configurations(plan_of(searcher, space, 20)))
    restarted = Configurations(plan_of(searcher, space, 1000))
    for index in (19, 3, 0, 7, 0, 12):
        assert restarted.suggest(index, {}) == restarted[index] == in_order[index]
    assert len({str(values) for values in in_order}) > 10
    assert Configurations(plan_of(searcher, space, seed=1))[5] != in_order[5]


@settings(max_examples=50, deadline=None)
@given(searcher=st.sampled_from(["random", "sobol"]), index=st.integers(0, 10**6))
@pytest.mark.parametrize("space", [CONDITIONAL, WITH_GRID])
def test_every_configuration_lies_in_the_space(
    space: dict[str, object], searcher: str, index: int
) -> None:
    plan = plan_of(searcher, space, 10**6 + 1)
    values = Configurations(plan)[index]
    assert lies_in(plan.search.parsed_space, values)
    plan.run(values, index)


@pytest.mark.parametrize("seed", range(5))
def test_sobol_configurations_lie_more_evenly_than_random_ones(seed: int) -> None:
    even, random = (
        qmc.discrepancy(parts(list(Configurations(plan_of(searcher, SQUARE, 64, seed)))))
        for searcher in ("sobol", "random")
    )
    assert even < random / 4


@pytest.mark.parametrize("seed", range(5))
def test_in_sobol_search_each_cell_of_the_grid_is_covered_evenly(seed: int) -> None:
    configurations = list(Configurations(plan_of("sobol", WITH_GRID, 64, seed)))
    cells: dict[tuple[object, object], list[dict[str, float]]] = {}
    for values in configurations:
        cells.setdefault((values["optim.nesterov"], values["model.width"]), []).append(values)
    assert [len(cell) for cell in cells.values()] == [16] * 4
    for cell in cells.values():
        halves = (parts(cell) < 0.5).sum(axis=0)
        assert list(halves) == [8, 8, 8]


def test_a_sobol_search_of_a_grid_alone_walks_round_it() -> None:
    space = {"optim.nesterov": {"grid": [True, False]}, "model.width": {"grid": [8, 16]}}
    configurations = Configurations(plan_of("sobol", space, 8))
    counts = Counter(str(values) for values in configurations)
    assert list(counts.values()) == [2, 2, 2, 2]


@pytest.mark.parametrize("searcher", ["random", "sobol"])
def test_a_known_point_is_kept_the_rest_is_drawn_and_other_trials_are_as_without_it(
    searcher: str,
) -> None:
    plan = plan_of(searcher, CONDITIONAL)
    plain, started = Configurations(plan), Configurations(plan)
    point = {"optim.name": "adamw", "data.cutout": 7}
    first = started.suggest(0, point)
    assert first is not None
    assert point.items() <= first.items()
    assert lies_in(plan.search.parsed_space, first)
    assert first["model.width"] == plain[0]["model.width"]
    assert [started.suggest(index, {}) for index in range(1, 9)] == list(plain)[1:9]


def test_a_grid_ends_with_its_last_point() -> None:
    configurations = Configurations(load_plan("grid"))
    assert len(configurations) == 16
    assert len({str(values) for values in configurations}) == 16
    assert configurations.suggest(15, {}) == configurations[15]
    assert configurations.suggest(16, {}) is None
    with pytest.raises(IndexError, match="16"):
        configurations[16]


def test_nothing_is_learnt_from_results(tmp_path: Path) -> None:
    plan = plan_of("random", SQUARE)
    configurations, before = Configurations(plan), list(Configurations(plan))
    with Journal(tmp_path) as journal:
        recorder = Recorder(journal, [configurations.observe])
        values = {"version": 1, "plan": plan.model_dump(mode="json"), "data": {}, "environment": {}}
        recorder.write("search", **values)
        recorder.write("trial_created", trial_id="t0001", index=0, seed=0, values=before[0])
        recorder.write("trial_ended", trial_id="t0001", status="failed", reason="")
    assert list(configurations) == before


def test_scipy_is_imported_for_sobol_alone() -> None:
    code = (
        "import sys\n"
        "from cifar_tune.plan.load import load_plan\n"
        "from cifar_tune.search.configurations import Configurations\n"
        "Configurations(load_plan())[0]\n"
        "assert 'scipy' not in sys.modules\n"
        "Configurations(load_plan(None, ['search.searcher=sobol']))[0]\n"
        "assert 'scipy' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
