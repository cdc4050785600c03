"""Optuna's samplers on the events of a search: what they learn, and what a restart may not change."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution
from optuna.samplers import GPSampler, GridSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState
from search.studies import ToldSearch, Values, accuracy_of, statuses_of_restarts

from cifar_tune.plan.load import load_plan
from cifar_tune.plan.space import parse_space
from cifar_tune.record.optuna_trials import parameters_of
from cifar_tune.search.study import sampler_of

NUMBERS = (
    "search.space={optim.lr: {loguniform: [1e-4, 10]}, optim.label_smoothing: {uniform: [0, 0.3]},"
    " model.l1: {pow2: [4, 256]}, data.batch_size: {choice: [16, 32, 64]}}"
)
CONDITIONS = (
    "search.space={optim.name: {choice: [sgd, adamw]}, optim.lr: {loguniform: [1e-4, 10]},"
    " optim.label_smoothing: {uniform: [0, 0.3]},"
    " optim.momentum: {uniform: [0.5, 0.99], when: {optim.name: sgd}},"
    " model.l1: {pow2: [4, 256], when: {optim.name: adamw}}}"
)
QUADRATIC = (
    "search.space={optim.lr: {loguniform: [1e-4, 10]}, optim.label_smoothing: {uniform: [0, 0.3]}}"
)
SIX_POINTS = "search.space={data.crop_padding: {int: [2, 4]}, model.l1: {pow2: [4, 8]}}"
LEARNING = ("tpe", "gp", "cmaes", "bohb")


class Notes:
    """Notes which trials a sampler is shown."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.seen: list[FrozenTrial] = []

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        self.seen = [one for one in study.get_trials() if one.number != trial.number]
        return {}


class Noting(Notes, RandomSampler):
    pass


class NotingGP(Notes, GPSampler):
    """Of a kind that leaves pruned trials out."""


def noted(search: ToldSearch, sampler: Any) -> list[FrozenTrial]:
    """What the sampler learns from after all that was told; it costs a trial, which goes on."""
    search.create()
    return list(sampler.seen)


def own(folder: Path, sampler: Any, *overrides: str, **known: Any) -> ToldSearch:
    words = ("search.searcher=my_code:factory", NUMBERS, *overrides)
    return ToldSearch(folder, *words, sampler=lambda seed: sampler, **known)


def points(count: int) -> list[dict[str, Any]]:
    """An earlier search's trials in the space of `NUMBERS`."""
    rng = random.Random(5)
    trials = []
    for _ in range(count):
        values = {
            "optim.lr": 10 ** rng.uniform(-4, 1), "optim.label_smoothing": rng.uniform(0, 0.3),
            "model.l1": rng.choice([4, 16, 64]), "data.batch_size": rng.choice([16, 32, 64]),
        }  # fmt: skip
        results = [[epoch, accuracy_of(values) * epoch / 3] for epoch in (1, 2, 3)]
        trials.append({"values": values, "status": "completed", "results": results})
    return trials


@pytest.mark.parametrize(
    ("searcher", "space", "trials"),
    [
        ("tpe", NUMBERS, 40), ("tpe", CONDITIONS, 40), ("cmaes", NUMBERS, 40),
        ("cmaes", CONDITIONS, 40), ("gp", NUMBERS, 3), ("bohb", NUMBERS, 40),
        ("bohb", CONDITIONS, 40),
    ],
)  # fmt: skip
def test_a_search_that_is_restarted_before_every_trial_suggests_what_an_unbroken_one_does(
    searcher: str, space: str, trials: int, tmp_path: Path
) -> None:
    earlier = {"source": "first", "points": [], "trials": points(12)}  # gp draws ten at random
    known = earlier if searcher == "gp" else None
    scheduler = f"search.scheduler={'hyperband' if searcher == 'bohb' else 'none'}"
    words = (f"search.searcher={searcher}", scheduler, space)
    search = ToldSearch(tmp_path / "a", *words, known=known)
    statuses = statuses_of_restarts(search, trials, tmp_path / "b")
    if trials == 40:
        assert statuses >= {"completed", "stopped", "failed", "diverged"}


@pytest.mark.parametrize("searcher", LEARNING)
def test_suggestions_are_those_of_the_seed(searcher: str, tmp_path: Path) -> None:
    first, other = (
        ToldSearch(tmp_path / str(seed), f"search.searcher={searcher}", NUMBERS, f"seed={seed}")
        for seed in (1, 2)
    )
    assert first.suggest() != other.suggest()


@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
def test_tpe_goes_to_the_optimum_in_either_direction(metric: str, tmp_path: Path) -> None:
    search = ToldSearch(tmp_path, "search.searcher=tpe", QUADRATIC, f"search.metric={metric}")
    away = []
    for _ in range(45):
        name = search.create()
        accuracy = accuracy_of(search.values(name))
        search.run(name, 0.5 * accuracy, 0.9 * accuracy, accuracy)
        away.append(abs(math.log10(float(search.values(name)["optim.lr"]) / 0.1)))  # type: ignore[arg-type]
    assert statistics.median(away[-5:]) < 0.3  # at random 1.3, at the worst 3


def test_cmaes_goes_on_learning_when_a_branch_is_taken_for_the_first_time(tmp_path: Path) -> None:
    """Optuna's own has no use for its optimizer then, and draws at random from there on."""
    search = ToldSearch(tmp_path, "search.searcher=cmaes", CONDITIONS)
    away = []
    for index in range(80):
        values = search.suggest({"optim.name": "sgd"} if index < 15 else {})
        assert values is not None
        accuracy = accuracy_of(values)
        search.complete(accuracy, accuracy, accuracy, values=values)
        away.append(0.9 - accuracy)
    assert max(away[-20:]) < sorted(away[:15])[5]


def test_the_sampler_sees_each_trial_in_its_state(tmp_path: Path) -> None:
    sampler = Noting()
    search = own(tmp_path, sampler)
    search.complete(0.2, 0.6, 0.5)
    search.run(search.create(), 0.1, 0.3, status="stopped")
    search.run(search.create(), 0.2, status="failed")
    search.run(search.create(), 0.4, status="diverged")
    search.report(search.create(), 0.35)
    seen = noted(search, sampler)
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.PRUNED]
    assert [trial.state for trial in seen] == [*states, TrialState.RUNNING]
    assert seen[0].value == 0.6
    assert seen[1].intermediate_values == {1: 0.1, 2: 0.3}
    names = ["optim.lr", "optim.label_smoothing", "log2(model.l1)", "data.batch_size"]
    assert all([*trial.params] == names for trial in seen)


def test_a_diverged_trial_is_the_last_of_the_pruned_ones_for_tpe(tmp_path: Path) -> None:
    """TPE ranks them by how late they were pruned, so that a late divergence would look good."""
    sampler = Noting()
    search = own(tmp_path, sampler)
    search.run(search.create(), 0.4, 0.5, status="diverged")
    (seen,) = noted(search, sampler)
    assert seen.state is TrialState.PRUNED
    assert seen.intermediate_values == {}


@pytest.mark.parametrize(("metric", "worst"), [("val_accuracy", 0.3), ("val_loss", 0.7)])
def test_a_diverged_trial_counts_as_the_worst_for_a_sampler_that_leaves_pruned_ones_out(
    metric: str, worst: float, tmp_path: Path
) -> None:
    sampler = NotingGP()
    search = own(tmp_path, sampler, f"search.metric={metric}")
    search.complete(0.6)
    search.complete(0.3)
    search.run(search.create(), 0.2, status="diverged")
    seen = noted(search, sampler)
    assert [trial.state for trial in seen] == [TrialState.COMPLETE] * 3
    assert seen[2].value == worst


def test_a_trial_that_diverged_before_any_other_completed_teaches_nothing(tmp_path: Path) -> None:
    sampler = NotingGP()
    search = own(tmp_path, sampler)
    search.run(search.create(), status="diverged")
    assert [trial.state for trial in noted(search, sampler)] == [TrialState.FAIL]


def test_an_interrupted_trial_goes_on_and_no_other_is_left_running(tmp_path: Path) -> None:
    sampler = Noting()
    search = own(tmp_path, sampler)
    search.complete(0.2, 0.6)
    search.end(search.create(), "interrupted", "SIGINT")
    search.restart()
    states = [trial.state for trial in noted(search, sampler)]
    assert states == [TrialState.COMPLETE, TrialState.RUNNING]


def test_a_trial_whose_end_was_not_recorded_any_more_ended_by_its_last_report(
    tmp_path: Path,
) -> None:
    sampler = Noting()
    search = own(tmp_path, sampler)
    name = search.create()
    for accuracy in (0.2, 0.6, 0.5):
        search.report(name, accuracy)
    search.restart()
    (seen,) = noted(search, sampler)
    assert (seen.state, seen.value) == (TrialState.COMPLETE, 0.6)


def test_an_extended_trial_counts_once_with_its_newest_value(tmp_path: Path) -> None:
    sampler = Noting()
    search = own(tmp_path, sampler)
    name = search.complete(0.2, 0.6, 0.5)
    noted(search, sampler)
    extend(search, 5)
    assert {trial.state for trial in noted(search, sampler)} == {TrialState.RUNNING}
    search.run(name, 0.7, 0.8)
    long, *others = noted(search, sampler)
    assert (long.state, long.value) == (TrialState.COMPLETE, 0.8)
    assert {trial.state for trial in others} == {TrialState.RUNNING}


def complete(search: ToldSearch, trials: int) -> None:
    for _ in range(trials):
        name = search.create()
        accuracy = accuracy_of(search.values(name))
        search.run(name, accuracy, accuracy, accuracy)


def extend(search: ToldSearch, epochs: int) -> None:
    plan = search.plan.model_dump(mode="json")
    plan["train"]["max_epochs"] = epochs
    search.write("extended", plan=plan)


@pytest.mark.parametrize("searcher", ["tpe", "cmaes", "bohb"])
def test_suggestions_after_an_extension_are_those_of_a_fresh_start(
    searcher: str, tmp_path: Path
) -> None:
    search = ToldSearch(tmp_path / "a", f"search.searcher={searcher}", NUMBERS)
    complete(search, 20)
    extend(search, 4)
    for name in [*search.recorder.results.trials]:
        search.run(name, accuracy_of(search.values(name)) + 0.05)
        index = len(search.recorder.results.trials)
        again = search.told_again(tmp_path / "b").suggest(index, {})
        assert again == search.values(search.create())


def test_cmaes_keeps_its_generations_when_trials_are_extended(tmp_path: Path) -> None:
    search = ToldSearch(tmp_path, "search.searcher=cmaes", NUMBERS)
    complete(search, 20)
    before = search.told_again(tmp_path / "b").suggest(20, {})
    extend(search, 4)
    assert search.suggest() == before


def test_a_failed_trial_that_is_tried_again_is_running_then_counts(tmp_path: Path) -> None:
    sampler = Noting()
    search = own(tmp_path, sampler)
    name = search.create()
    search.run(name, 0.2, status="failed")
    noted(search, sampler)
    search.write("trial_retried", trial_id=name, kind="code", reason="", by_user=True)
    assert {trial.state for trial in noted(search, sampler)} == {TrialState.RUNNING}
    search.run(name, 0.4, 0.6)
    again, *others = noted(search, sampler)
    assert (again.state, again.value) == (TrialState.COMPLETE, 0.6)
    assert {trial.state for trial in others} == {TrialState.RUNNING}


def test_the_sampler_learns_from_an_earlier_search(tmp_path: Path) -> None:
    trials = [*points(2), {**points(3)[2], "status": "stopped"}]
    trials.append({**points(4)[3], "status": "failed", "results": []})
    sampler = Noting()
    known = {"source": "first", "points": [], "trials": trials}
    search = own(tmp_path, sampler, known=known)
    seen = noted(search, sampler)
    states = [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert [trial.state for trial in seen] == states
    assert seen[0].value == trials[0]["results"][2][1]
    assert [*seen[2].intermediate_values] == [1, 2, 3]


def test_a_powers_exponent_is_what_the_sampler_varies(tmp_path: Path) -> None:
    sampler = Noting()
    search = own(tmp_path, sampler)
    values = search.values(search.create())
    assert values["model.l1"] in (4, 8, 16, 32, 64, 128, 256)
    (seen,) = noted(search, sampler)
    assert 2 ** seen.params["log2(model.l1)"] == values["model.l1"]
    distribution = seen.distributions["log2(model.l1)"]
    assert distribution == optuna.distributions.IntDistribution(2, 8)


@pytest.mark.parametrize("searcher", LEARNING)
def test_values_are_plain_python_within_their_bounds(searcher: str, tmp_path: Path) -> None:
    space = (
        "search.space={optim.lr: {loguniform: [1e-4, 10]}, optim.momentum: {uniform: [0, 0.99]},"
        " data.crop_padding: {int: [0, 8]}, model.width: {logint: [2, 64]},"
        " model.l1: {pow2: [4, 256]}, data.batch_size: {grid: [16, 32]},"
        " optim.nesterov: {choice: [true]}}"
    )
    types = {
        "optim.lr": float, "optim.momentum": float, "data.crop_padding": int, "model.width": int,
        "model.l1": int, "data.batch_size": int, "optim.nesterov": bool,
    }  # fmt: skip
    search = ToldSearch(tmp_path, f"search.searcher={searcher}", space)
    for _ in range(12):
        name = search.create()
        values = search.values(name)
        assert {field: type(value) for field, value in values.items()} == types
        assert all(one.holds(values[one.field]) for one in search.plan.search.parsed_space)
        search.run(name, accuracy_of(values))


@pytest.mark.parametrize("searcher", LEARNING)
def test_a_field_is_suggested_only_when_its_condition_holds(searcher: str, tmp_path: Path) -> None:
    search = ToldSearch(tmp_path, f"search.searcher={searcher}", CONDITIONS)
    names = set()
    for _ in range(12):
        name = search.create()
        values = search.values(name)
        child = {"sgd": "optim.momentum", "adamw": "model.l1"}[str(values["optim.name"])]
        assert {*values} == {"optim.name", "optim.lr", "optim.label_smoothing", child}
        names.add(values["optim.name"])
        search.run(name, accuracy_of(values))
    assert names == {"sgd", "adamw"}


@pytest.mark.parametrize("searcher", LEARNING)
def test_no_configuration_comes_twice_and_a_space_can_be_exhausted(
    searcher: str, tmp_path: Path
) -> None:
    search = ToldSearch(tmp_path, f"search.searcher={searcher}", SIX_POINTS)
    configurations = []
    for _ in range(6):
        name = search.create()
        configurations.append(tuple(search.values(name).items()))
        search.run(name, 0.5, status=random.Random(name).choice(["completed", "failed"]))
    assert len(set(configurations)) == 6
    assert search.suggest() is None
    search.restart()
    assert search.suggest() is None


def test_a_space_with_conditions_is_exhausted_when_all_its_branches_are(tmp_path: Path) -> None:
    space = (
        "search.space={optim.name: {choice: [sgd, adamw]},"
        " data.crop_padding: {int: [2, 4], when: {optim.name: sgd}}}"
    )
    search = ToldSearch(tmp_path, "search.searcher=tpe", space)
    found = {tuple(search.values(search.complete(0.5)).values()) for _ in range(4)}
    assert found == {("adamw",), ("sgd", 2), ("sgd", 3), ("sgd", 4)}
    assert search.suggest() is None


def test_a_space_of_many_combinations_that_are_few_points_is_exhausted_too(tmp_path: Path) -> None:
    """432,000 combinations are too many to list, but conditions leave 179 points of them."""
    chain = (("model.width", "optim.name: sgd"), ("model.l1", "model.width: 1"))
    chain += (("model.l2", "model.l1: 1"),)
    fields = "".join(f", {field}: {{int: [1, 60], when: {{{when}}}}}" for field, when in chain)
    space = f"search.space={{optim.name: {{choice: [sgd, adamw]}}{fields}}}"
    search = ToldSearch(tmp_path, "search.searcher=tpe", space)
    above: Values = {"optim.name": "sgd"}
    for field, _ in chain:
        for number in range(2, 61):
            search.create({**above, field: number})
        above[field] = 1
    search.create(dict(above))
    assert search.values(search.create()) == {"optim.name": "adamw"}
    assert search.suggest() is None


def test_fixed_values_are_kept_and_the_others_suggested(tmp_path: Path) -> None:
    search = ToldSearch(tmp_path, "search.searcher=tpe", CONDITIONS)
    fixed = {"optim.name": "adamw", "model.l1": 32}
    values = search.suggest(fixed)
    assert values is not None
    assert {*values} == {"optim.name", "optim.lr", "optim.label_smoothing", "model.l1"}
    assert {field: values[field] for field in fixed} == fixed


@pytest.mark.parametrize("searcher", ["tpe", "cmaes"])
def test_known_points_are_learnt_from_and_leave_a_restart_as_it_was(
    searcher: str, tmp_path: Path
) -> None:
    given = [{"optim.lr": 0.1, "optim.label_smoothing": 0.15}, {"optim.lr": 1.0}]
    known = {"source": "the plan", "points": given, "trials": []}
    search = ToldSearch(tmp_path / "a", f"search.searcher={searcher}", NUMBERS, known=known)
    for index in range(25):
        fixed = given[index] if index < 2 else {}
        again = search.told_again(tmp_path / "b").suggest(index, fixed)
        values = search.suggest(fixed)
        assert again == values
        assert values is not None
        assert values.items() >= fixed.items()
        search.complete(accuracy_of(values), values=values)


def test_a_known_point_that_was_tried_already_is_not_tried_again(tmp_path: Path) -> None:
    search = ToldSearch(tmp_path, "search.searcher=tpe", QUADRATIC)
    point = {"optim.lr": 0.1, "optim.label_smoothing": 0.1}
    search.complete(0.5, values=dict(point))
    values = search.suggest(point)
    assert values is not None
    assert values != point


class Replayed(RandomSampler):
    """Counts its suggestions in the study, as Optuna's own QMCSampler does."""

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {"optim.lr": optuna.distributions.FloatDistribution(1e-4, 10, log=True)}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        count = study.user_attrs.get("count", 0)
        study.set_user_attr("count", count + 1)
        return {"optim.lr": 10.0 ** (-count / 10)}


def test_what_a_users_sampler_keeps_in_its_study_is_there_after_a_restart(tmp_path: Path) -> None:
    search = own(tmp_path, Replayed(0))
    rates = [search.values(search.complete(0.5))["optim.lr"] for _ in range(3)]
    search.restart()
    rates += [search.values(search.complete(0.5))["optim.lr"] for _ in range(3)]
    assert rates == [10.0 ** (-count / 10) for count in range(6)]


@pytest.mark.parametrize(
    ("space", "field", "values"),
    [(QUADRATIC, "optim.lr", [0.01, 0.1, 1.0]), (SIX_POINTS, "data.crop_padding", [2, 4])],
)
def test_a_users_sampler_may_say_that_there_is_no_more(
    space: str, field: str, values: list[Any], tmp_path: Path
) -> None:
    other = {"optim.lr": "optim.label_smoothing", "data.crop_padding": "log2(model.l1)"}[field]
    sampler = GridSampler({field: values, other: [0.1] if field == "optim.lr" else [2]}, seed=0)
    single = "search.space.optim.nesterov={choice: [true]}"  # no sampler is asked for it
    words = ("search.searcher=my_code:factory", space, single)
    search = ToldSearch(tmp_path, *words, sampler=lambda seed: sampler)
    found = [search.values(search.complete(0.5))[field] for _ in values]
    assert sorted(found) == values  # type: ignore[type-var]
    assert search.suggest() is None


class Finishing(RandomSampler):
    """Notes how its trials ended."""

    def __init__(self) -> None:
        super().__init__(0)
        self.ended: list[tuple[TrialState, Sequence[float] | None]] = []

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self.ended.append((state, values))


def test_a_users_sampler_is_told_how_its_trials_ended(tmp_path: Path) -> None:
    sampler = Finishing()
    search = own(tmp_path, sampler)
    search.complete(0.2, 0.6)
    search.run(search.create(), 0.3, status="stopped")
    search.suggest()
    assert sampler.ended == [(TrialState.COMPLETE, [0.6]), (TrialState.PRUNED, [0.3])]


def test_tpe_models_what_conditions_leave_out(tmp_path: Path) -> None:
    parameters = {}
    for name, space in (("plain", NUMBERS), ("conditions", CONDITIONS)):
        sampler = sampler_of(load_plan(None, ["search.searcher=tpe", space]))(0)
        study = optuna.create_study()
        for _ in range(12):
            trial = study.ask()
            trial.suggest_float("optim.lr", 1e-4, 10, log=True)
            if trial.suggest_categorical("optim.name", ["sgd", "adamw"]) == "sgd":
                trial.suggest_float("optim.momentum", 0.5, 0.99)
            study.tell(trial, 0.5)
        parameters[name] = {*sampler.infer_relative_search_space(study, study.trials[0])}
    assert parameters["plain"] == {"optim.lr", "optim.name"}
    assert parameters["conditions"] == {"optim.lr", "optim.name", "optim.momentum"}


def test_a_rounding_error_at_a_bound_is_mended() -> None:
    (rate,) = parameters_of(parse_space({"optim.lr": {"loguniform": [1e-4, 10]}}))
    assert rate.decode(math.nextafter(1e-4, 0)) == 1e-4
    assert rate.decode(math.nextafter(10, 11)) == 10.0
