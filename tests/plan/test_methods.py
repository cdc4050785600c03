"""Searcher and scheduler where a plan leaves them open."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_tune.errors import PlanError
from cifar_tune.plan.compatibility import REFUSED, SCHEDULERS, check_pair
from cifar_tune.plan.load import load_plan
from cifar_tune.session.changes import check_same_plan

PRIOR = "search.space={optim.lr: {loguniform: [0.01, 1.0], prior: 0.1}}"
GRID = "search.space.data.flip={grid: [none, random]}"


@pytest.mark.parametrize(
    ("given", "searcher", "scheduler"),
    [
        ([], "random", "asha"),
        (["search.searcher=auto", "search.scheduler=auto"], "random", "asha"),
        (["search.num_samples=31"], "random", "asha"),
        (["search.num_samples=32"], "random", "promote"),
        (["search.num_samples=32", "search.searcher=tpe"], "tpe", "promote"),
        (["search.num_samples=32", "search.scheduler=halving"], "random", "halving"),
        (["search.searcher=gp"], "gp", "none"),
        (["search.searcher=cmaes"], "cmaes", "none"),
        (["search.searcher=bohb", "search.num_samples=64"], "bohb", "hyperband"),
        (["search.scheduler=none"], "tpe", "none"),
        (["search.scheduler=none", "search.num_samples=10"], "random", "none"),
        (["search.scheduler=none", GRID], "random", "none"),
        (["search.scheduler=pbt"], "random", "pbt"),
        ([PRIOR], "priorband", "asha"),
        ([PRIOR, "search.scheduler=none"], "priorband", "none"),
        ([PRIOR, "search.scheduler=pbt"], "random", "pbt"),
    ],
)
def test_what_is_open_is_settled(given: list[str], searcher: str, scheduler: str) -> None:
    search = load_plan(None, given).search
    assert (search.searcher, search.scheduler) == (searcher, scheduler)


@pytest.mark.parametrize("samples", [1, 8, 16, 64])
def test_what_is_settled_goes_together(samples: int) -> None:
    size = f"search.num_samples={samples}"
    for searcher in {*REFUSED} - {"package.module:factory", "grid"}:
        plan = load_plan(None, [PRIOR, size, f"search.searcher={searcher}"])
        assert plan.search.scheduler not in REFUSED[searcher]
    for scheduler in {*SCHEDULERS} - {"pbt"}:
        check_pair(load_plan(None, [size, f"search.scheduler={scheduler}"]))


def test_the_default_has_no_note_about_itself() -> None:
    for samples in (16, 64):
        assert check_pair(load_plan(None, [f"search.num_samples={samples}"])) == []


@pytest.mark.parametrize("recorded", ["promote", "halving"])
def test_a_search_goes_on_with_its_own_methods_where_the_command_names_none(recorded: str) -> None:
    old = load_plan(None, ["search.searcher=sobol", f"search.scheduler={recorded}"])
    for words in ([], ["search.scheduler=auto"], [f"search.scheduler={recorded}"]):
        wanted = load_plan(None, words)
        check_same_plan(old, wanted, wanted)
    wanted = load_plan(None, ["search.scheduler=median"])
    refusal = rf"search\.scheduler was '{recorded}' and is now 'median'"
    with pytest.raises(PlanError, match=refusal):
        check_same_plan(old, wanted, wanted)


def test_what_was_settled_is_written_down(tmp_path: Path) -> None:
    from cifar_tune.plan.section import dump_yaml

    plan = load_plan(None, ["search.num_samples=40"])
    (tmp_path / "plan.yaml").write_text(dump_yaml(plan))
    again = load_plan(str(tmp_path / "plan.yaml"))
    assert again == plan
    assert again.search.scheduler == "promote"
