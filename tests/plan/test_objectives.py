"""Several objectives in a plan: what they settle, and each mistake that a person makes with them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cifar_tune.errors import PlanError
from cifar_tune.plan import preflight
from cifar_tune.plan.compatibility import check_pair
from cifar_tune.plan.load import load_plan, plan_from
from cifar_tune.plan.machine import read_machine
from cifar_tune.plan.objectives import Goal

TWO = "search.objectives=[{val_macro_f1: max}, {parameters: min}]"


def test_the_first_is_the_metric() -> None:
    search = load_plan(None, [TWO]).search
    assert (search.metric, search.mode, search.sign) == ("val_macro_f1", "max", 1)
    assert search.goals == (Goal("val_macro_f1", "max"), Goal("parameters", "min"))


def test_a_recorded_plan_reads_back() -> None:
    plan = load_plan(None, [TWO])
    assert plan_from(plan.model_dump(mode="json"), "the journal") == plan


def test_without_objectives_the_metric_is_the_goal() -> None:
    assert load_plan(None, ["search.metric=val_loss"]).search.goals == (Goal("val_loss", "min"),)


def test_each_figure_of_a_validation_is_computed() -> None:
    plan = load_plan(None, ["search.objectives=[{val_accuracy: max}, {val_macro_f1: max}]"])
    assert plan.run({}, 0).train.metrics == ["macro_f1"]


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ("[{val_accuracy: max}]", "objectives has val_accuracy alone; give at least two"),
        ("[{val_accuracy: max}, {}]", r"has {}; each is one `figure: max` or `figure: min`"),
        ("[{val_accuracy: max, parameters: min}, {val_loss: min}]", "each is one `figure: max`"),
        ("[{val_accuracy: max}, {val_accuracy: max}]", "each figure stands there once"),
        ("[{val_accuracy: max}, {parameters: max}]", "parameters: max, and less of it is better"),
        ("[{val_accuracy: min}, {parameters: min}]", "of val_accuracy max is better"),
        ("[{parameters: min}, {val_accuracy: max}]", "put that first"),
        ("[{val_accuracy: max}, {val_loss: max}]", "of val_loss min is better"),
        ("[{val_accuracy: max}, {parameter: min}]", "did you mean parameters"),
        ("[{val_accuracy: max}, {latency: min}]", "it must be one of .*latency_ms"),
        ("[val_accuracy, parameters]", "objectives"),
        ("[{val_accuracy: best}, {parameters: min}]", "max.* or .*min"),
    ],
)
def test_mistakes_in_objectives(objectives: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        load_plan(None, [f"search.objectives={objectives}"])


def test_a_metric_that_is_not_the_first_is_refused() -> None:
    with pytest.raises(
        PlanError,
        match=r"begins with val_macro_f1: max, and search.metric is val_loss \(min\); the first",
    ):
        load_plan(None, ["search.metric=val_loss", TWO])


def test_given_alone_they_take_the_place_of_a_configs_metric() -> None:
    search = load_plan("lecture", [TWO]).search
    assert (search.metric, search.mode) == ("val_macro_f1", "max")


def test_a_mistake_is_told_with_its_flag() -> None:
    wrong = "search.objectives=[{val_accuracy: max}, {parameter: min}]"
    with pytest.raises(PlanError, match=r"^--set search.objectives=.*: search.objectives is "):
        load_plan(None, [wrong])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["finals.trials=[t0001]", "finals.seeds=0"], "trials t0001 and seeds 0"),
        (["finals.trials=[t0001, t0001]"], "name each once"),
    ],
)
def test_named_trials_that_make_no_sense_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        load_plan(None, overrides)


@pytest.mark.parametrize("name", ["t0017", "t0000", "seven", "t1", "7"])
def test_a_trial_that_can_not_be_there_is_refused_before_the_start(name: str) -> None:
    plan = load_plan(None, [f"finals.trials=['{name}']", "search.num_samples=16"])
    with pytest.raises(PlanError, match=rf"finals.trials has '{name}', and the search has 16"):
        preflight.check(plan, [replace(read_machine(), cpus=2, gpus=0)])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search.searcher=cmaes", "search.scheduler=none"], "cmaes can learn from one alone"),
        (["search.searcher=bohb", "search.scheduler=hyperband"], "bohb can learn from one alone"),
        (
            ["task=analytic_task:Bowl", "search.objectives=[{depth: max}, {latency_ms: min}]"],
            "can't time its models",
        ),
    ],
)
def test_what_can_not_be_done_with_several_is_refused(overrides: list[str], message: str) -> None:
    more = [] if any("objectives" in one for one in overrides) else [TWO]
    with pytest.raises(PlanError, match=message):
        check_pair(load_plan(None, [*more, *overrides]))


def test_what_early_stopping_and_the_winner_go_by_is_noted() -> None:
    plan = load_plan(None, ["search.objectives=[{val_accuracy: max}, {latency_ms: min}]",
                            "search.searcher=tpe", "search.num_samples=20"])  # fmt: skip
    notes = "; ".join(check_pair(plan))
    assert "the best by val_accuracy is the winner" in notes
    assert "asha stops trials by val_accuracy alone, however good they are in latency_ms" in notes
    assert "latency_ms is measured after the search: tpe learns without it" in notes
    plan = load_plan(None, [TWO, "search.scheduler=none"])
    assert not any("alone" in note for note in check_pair(plan))
