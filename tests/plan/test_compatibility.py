"""Every pair of searcher and scheduler is run or refused with its reason, and what each asks for."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest

from cifar_tune.errors import PlanError
from cifar_tune.plan.compatibility import (
    OWN,
    REFUSED,
    SCHEDULERS,
    check_pair,
    is_model_based,
    load_factory,
)
from cifar_tune.plan.config import Plan, SearchConfig
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.section import known_fields
from cifar_tune.vision.config import VisionPlan, VisionRun
from cifar_tune.vision.task import VISION

SEARCHERS = {*get_args(get_args(SearchConfig.model_fields["searcher"].annotation)[0])} - {"auto"}
LIST = "search.space.data.batch_size={choice: [64, 128]}"
CONDITION = "search.space.optim.momentum={uniform: [0.8, 0.9], when: {data.batch_size: 64}}"


def plan_of(searcher: str, scheduler: str, *overrides: str) -> Plan:
    given = [f"search.searcher={searcher}", f"search.scheduler={scheduler}", *overrides]
    return load_plan(None, given)


@pytest.fixture
def own_searcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A searcher of the user's own in the current directory."""
    name = f"searcher_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text("def factory(plan): return plan.seed\nspiral = 3\n")
    monkeypatch.chdir(tmp_path)
    return name


def test_the_table_knows_every_searcher_and_every_scheduler() -> None:
    known = {*get_args(SearchConfig.model_fields["scheduler"].annotation)} - {"auto"}
    assert sorted([*SCHEDULERS, "bohb"]) == sorted(known)
    assert set(REFUSED) == {*SEARCHERS, OWN}
    assert all(set(refused) <= set(SCHEDULERS) for refused in REFUSED.values())


@pytest.mark.parametrize(("searcher", "scheduler"), list(product(REFUSED, SCHEDULERS)))
def test_a_pair_is_let_through_or_refused_with_what_to_give_instead(
    searcher: str, scheduler: str, own_searcher: str
) -> None:
    name = f"{own_searcher}:factory" if searcher == OWN else searcher
    plan = plan_of(name, scheduler)
    if scheduler not in REFUSED[searcher]:
        check_pair(plan)
        return
    start = f"search.searcher is {name!r} with search.scheduler {scheduler!r}: "
    with pytest.raises(PlanError, match=f"^{re.escape(start)}") as caught:
        check_pair(plan)
    message = str(caught.value)
    assert "{" not in message
    schedulers, instead = message.rpartition("; give --scheduler ")[2].split(", or --searcher ")
    for word in schedulers.replace(" or ", ", ").split(", "):
        check_pair(plan_of(name, word))
    check_pair(plan_of(instead, scheduler))


def test_the_reason_is_told() -> None:
    with pytest.raises(
        PlanError,
        match=r"^search\.searcher is 'gp' with search\.scheduler 'asha': gp learns only from trials that"
        r" ran to their end, and asha ends most of them early; give --scheduler none, or"
        r" --searcher tpe$",
    ):
        check_pair(plan_of("gp", "asha"))


def test_optunas_gp_and_cmaes_still_pass_over_trials_that_were_stopped() -> None:
    """The reason why these are refused beside early stopping; on the day it fails, they need not be."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = {name: optuna.distributions.FloatDistribution(0, 1) for name in "xy"}
    for sampler, learns in (
        (optuna.samplers.CmaEsSampler(seed=0), False),
        (optuna.samplers.GPSampler(seed=0), False),
        (optuna.samplers.TPESampler(seed=0, multivariate=False), True),
    ):
        study = optuna.create_study(sampler=sampler)
        for index in range(30):
            trial = optuna.trial.create_trial(
                params={"x": index / 30, "y": index / 30},
                distributions=space,
                intermediate_values={1: index},
                state=optuna.trial.TrialState.PRUNED,
            )
            study.add_trial(trial)
        drawn = [study.ask(space).params["x"] for _ in range(20)]
        assert (sum(drawn) / 20 < 0.25) == learns, type(sampler).__name__


def test_learning_from_nothing_is_noted() -> None:
    few, enough = "search.num_samples=10", "search.num_samples=11"
    told = (
        "tpe draws its first 10 trials at random, and search.num_samples is 10: it learns nothing"
    )
    assert check_pair(plan_of("tpe", "asha", few)) == [told]
    assert check_pair(plan_of("tpe", "asha", enough)) == []
    assert "gp draws its first 10" in check_pair(plan_of("gp", "none", few))[0]
    assert check_pair(plan_of("tpe", "asha", few, "search.start_from=some/folder")) == []
    assert check_pair(plan_of("random", "asha", few)) == []


def test_fields_that_are_drawn_at_random_are_named() -> None:
    assert check_pair(plan_of("gp", "none", LIST, CONDITION)) == [
        "gp draws at random what has a condition: optim.momentum"
    ]
    assert check_pair(plan_of("gp", "none", LIST)) == []
    notes = check_pair(plan_of("cmaes", "none", LIST, CONDITION))
    assert notes == [
        "cmaes draws at random what is a list or has a condition: data.batch_size, optim.momentum"
    ]


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ("{optim.lr: {uniform: [0.1, 1]}, data.batch_size: {choice: [64, 128]}}", "has optim.lr:"),
        ("{data.batch_size: {choice: [64, 128]}}", "has none:"),
        (
            "{optim.nesterov: {choice: [true, false]}, optim.lr: {uniform: [0.1, 1]},"
            " optim.momentum: {uniform: [0.5, 0.9], when: {optim.nesterov: true}}}",
            "has optim.lr:",
        ),
    ],
)
def test_cmaes_needs_two_numbers(space: str, told: str) -> None:
    with pytest.raises(PlanError, match=rf"at least 2 fields .* {told} .* --searcher tpe"):
        check_pair(plan_of("cmaes", "none", f"search.space={space}"))


def test_bohb_says_when_it_begins_to_learn() -> None:
    (note,) = check_pair(plan_of("bohb", "hyperband"))
    assert note.startswith("bohb draws at random until 7 trials have reported at one rung")
    (note,) = check_pair(plan_of("bohb", "hyperband", "search.num_samples=7"))
    assert note.startswith("bohb draws its first 7 trials at random")


@pytest.mark.parametrize("searcher", ["bohb", "random"])
def test_the_scheduler_of_earlier_versions_is_refused_with_what_to_give_instead(
    searcher: str,
) -> None:
    with pytest.raises(PlanError, match=r"'bohb', which is gone .* --scheduler hyperband") as told:
        check_pair(plan_of(searcher, "bohb"))
    assert "\n" not in str(told.value)


def test_a_grid_is_not_started_from_points() -> None:
    space = "search.space={model.width: {grid: [4, 8]}}"
    with pytest.raises(PlanError, match=r"'grid', which runs its points .*; leave start_from out"):
        check_pair(plan_of("grid", "none", space, "search.start_from=[{model.width: 4}]"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search.num_samples=3"], r"num_samples is 3, .* population of at least 4; raise it"),
        (
            ["search.perturbation_interval=9"],
            r"perturbation_interval is 9 and train\.max_epochs 9: pbt would never exchange",
        ),
        (
            ["search.space={model.width: {pow2: [4, 8]}, data.batch_size: {choice: [64, 128]}}"],
            r"changes optim\.lr, .* or data\.cutmix, and .* only model\.width, data\.batch_size;",
        ),
    ],
)
def test_a_population_that_can_not_change_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        check_pair(plan_of("random", "pbt", *overrides))


@pytest.mark.parametrize(
    ("interval", "epochs", "told"),
    [(2, 9, "2, 4, 6, 8"), (2, 8, "2, 4, 6"), (8, 9, "8"), (3, 1000, "3, 6, 9, ..., 999")],
)
def test_a_population_says_when_it_exchanges_and_what_it_keeps(
    interval: int, epochs: int, told: str
) -> None:
    given = [f"search.perturbation_interval={interval}", f"train.max_epochs={epochs}"]
    assert check_pair(plan_of("random", "pbt", *given)) == [
        f"pbt: after epochs {told} the worst quarter takes weights and changed values of the best"
        " quarter",
        "pbt leaves these as each trial was born with them: data.batch_size",
    ]
    alone = "search.space={optim.lr: {uniform: [0.1, 1]}}"
    assert len(check_pair(plan_of("sobol", "pbt", *given, alone))) == 1


def test_what_a_population_changes_are_fields_of_a_run() -> None:
    assert set(VISION.mutable) <= set(known_fields(VisionRun))


@pytest.mark.parametrize("scheduler", ["asha", "promote", "halving", "hyperband", "median"])
def test_a_grace_period_beyond_the_end_is_refused(scheduler: str) -> None:
    with pytest.raises(PlanError, match=r"grace_period is 10, above train\.max_epochs.* 9; lower"):
        check_pair(plan_of("random", scheduler, "search.grace_period=10"))


def test_median_says_from_when_on_it_judges() -> None:
    note = check_pair(plan_of("random", "median", "search.grace_period=4"))[0]
    assert note.startswith("median: from epoch 4 on")
    note = check_pair(plan_of("random", "median", "search.grace_period=9"))[0]
    assert "is the last: no trial is stopped early" in note


def test_a_searcher_of_ones_own_is_loaded_before_the_start(own_searcher: str) -> None:
    assert check_pair(plan_of(f"{own_searcher}:factory", "asha")) == []
    assert load_factory(f"{own_searcher}:factory")(VisionPlan(seed=7)) == 7
    with pytest.raises(PlanError, match=r"search\.searcher is .*has no factry; did you mean fac"):
        check_pair(plan_of(f"{own_searcher}:factry", "asha"))
    with pytest.raises(PlanError, match=r"is int; it must be .* called as factory\(plan\)"):
        check_pair(plan_of(f"{own_searcher}:spiral", "none"))


@pytest.mark.parametrize(
    ("searcher", "model_based"),
    [("tpe", True), ("gp", True), ("cmaes", True), ("a.b:c", True), ("random", False),
     ("sobol", False), ("grid", False), ("bohb", True)],
)  # fmt: skip
def test_searchers_that_learn(searcher: str, model_based: Any) -> None:
    assert is_model_based(searcher) is model_based


def test_the_documentation_names_the_same_pairs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "search.md").read_text()
    table = page.partition("| Searcher |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    named = {row[0].strip("`"): tuple(re.findall(r"`(\w+)`", row[2])) for row in rows}
    assert named == {
        searcher: tuple(name for name in SCHEDULERS if name not in refused)
        for searcher, refused in REFUSED.items()
    }
