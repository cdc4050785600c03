"""Searcher and scheduler where a plan leaves them open."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_tune.errors import PlanError
from cifar_tune.plan import preflight
from cifar_tune.plan.compatibility import REFUSED, SCHEDULERS, check_pair
from cifar_tune.plan.forecast import describe
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.machine import Machine
from cifar_tune.plan.section import dump_yaml
from cifar_tune.session.changes import check_same_plan, with_recorded_methods

MACHINE = Machine(cpus=2, gpus=0, cpu_name="a CPU", gpu_name=None, cpu_bf16=False, gpu_bf16=False)
FOUR_POINTS = "search.space={optim.lr: {choice: [0.05, 0.1]}, data.batch_size: {choice: [64, 128]}}"
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
        (["search.scheduler=none", "search.num_samples=1001"], "random", "none"),
        (["search.scheduler=none", FOUR_POINTS], "random", "none"),
        (["search.searcher=grid", "search.num_samples=99", FOUR_POINTS], "grid", "asha"),
        (["search.scheduler=none", GRID], "random", "none"),
        (["search.scheduler=pbt"], "random", "pbt"),
        ([PRIOR], "priorband", "asha"),
        ([PRIOR, "search.scheduler=none"], "priorband", "none"),
        ([PRIOR, "search.scheduler=pbt"], "random", "pbt"),
        ([PRIOR, "search.objectives=[{val_accuracy: max}, {parameters: min}]"], "random", "asha"),
        (["task=lightning", "search.num_samples=64"], "random", "asha"),
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
    given = ["search.searcher=sobol", f"search.scheduler={recorded}"]
    old = preflight.check(load_plan(None, given), [MACHINE]).plan
    for words in ([], ["search.scheduler=auto"], [f"search.scheduler={recorded}"]):
        wanted = with_recorded_methods(load_plan(None, words), old)
        assert wanted.search.scheduler == recorded
        check_same_plan(old, wanted, preflight.check(wanted, [MACHINE]).plan)
    wanted = with_recorded_methods(load_plan(None, ["search.scheduler=median"]), old)
    refusal = rf"search\.scheduler was '{recorded}' and is now 'median'"
    with pytest.raises(PlanError, match=refusal):
        check_same_plan(old, wanted, preflight.check(wanted, [MACHINE]).plan)


def test_the_number_of_trials_is_that_of_the_recorded_methods() -> None:
    """tpe tries each of four points once, random search the same ones again."""
    given = [FOUR_POINTS, "search.searcher=random"]
    old = preflight.check(load_plan(None, given), [MACHINE]).plan
    wanted = with_recorded_methods(load_plan(None, [FOUR_POINTS]), old)
    check_same_plan(old, wanted, preflight.check(wanted, [MACHINE]).plan)
    wanted = load_plan(None, [FOUR_POINTS, "search.searcher=tpe"])
    with pytest.raises(PlanError, match=r"num_samples was 16 and is now 4"):
        check_same_plan(old, wanted, preflight.check(wanted, [MACHINE]).plan)


def test_what_was_settled_is_written_down(tmp_path: Path) -> None:
    plan = load_plan(None, ["search.num_samples=40"])
    (tmp_path / "plan.yaml").write_text(dump_yaml(plan))
    assert load_plan(str(tmp_path / "plan.yaml")) == plan
    fewer = load_plan(str(tmp_path / "plan.yaml"), ["search.num_samples=8"])
    assert fewer.search.scheduler == "promote"


@pytest.mark.parametrize(("scheduler", "kept"), [("promote", 135), ("asha", 71), ("pbt", 135)])
def test_trials_that_wait_have_room_for_their_checkpoints(
    scheduler: str, kept: int, tmp_path: Path
) -> None:
    plan = load_plan(None, ["search.num_samples=64", f"search.scheduler={scheduler}"])
    text = "\n".join(describe(preflight.check(plan, [MACHINE]), ["it"], tmp_path, disk=True))
    assert f"at most {kept} checkpoints" in text
