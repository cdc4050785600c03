"""BOHB: what it suggests and learns, and that a search by it ends in a real Ray."""

from __future__ import annotations

import importlib.util
import json
import math
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import tune
from ray.tune.search import Searcher

from cifar_tune.errors import PlanError
from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.points import lies_in
from cifar_tune.plan.space import Value
from cifar_tune.record.results import Results
from cifar_tune.record.trials import id_of
from cifar_tune.search.bohb import BohbSuggester, budgets
from cifar_tune.search.schedulers import build_scheduler
from cifar_tune.search.suggester import NotNow

# Not `importorskip`: it would import hpbandster, whose docstrings Python warns of.
missing = [name for name in ("hpbandster", "ConfigSpace") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"{missing} of cifar-tune[bohb] are missing")

EPOCHS = 9
TWO_FIELDS = "search.space={optim.lr: {loguniform: [0.001, 1.0]}, optim.label_smoothing: {uniform: [0, 0.2]}}"


def bohb_plan(*overrides: str) -> Plan:
    chosen = ["search.searcher=bohb", "search.scheduler=bohb", f"train.max_epochs={EPOCHS}"]
    return load_plan(None, [*chosen, *overrides])


def accuracy_of(values: dict[str, Value]) -> float:
    """Best at lr 0.01."""
    return 1 / (1 + abs(math.log10(float(str(values["optim.lr"])) / 0.01)))


def result_of(accuracy: float, epoch: int, *, diverged: bool = False) -> dict[str, Any]:
    loss = 1e9 if diverged else 1 - accuracy
    return {"epoch": epoch, "val_accuracy": accuracy, "val_loss": loss, "diverged": diverged}


def run_trial(suggester: BohbSuggester, index: int, budget: int = 3) -> dict[str, Value]:
    """Suggest, report up to a rung, and stop there: Ray passes on the end alone."""
    values = suggester.suggest(index, {})
    assert values is not None
    result = result_of(accuracy_of(values), budget)
    suggester.on_trial_complete(id_of(index), result)
    return values


def far_off(values: list[dict[str, Value]]) -> float:
    """How many powers of ten the learning rates lie beside the best, in the middle."""
    return float(np.median([1 / accuracy_of(one) - 1 for one in values]))


def test_suggestions_lie_in_the_space_and_a_seed_repeats_them() -> None:
    plan = bohb_plan("search.space.data.flip={choice: [none, random]}")

    def first_ones(seed: int) -> list[dict[str, Value]]:
        suggester = BohbSuggester(plan.model_copy(update={"seed": seed}))
        return [run_trial(suggester, index) for index in range(20)]

    drawn = first_ones(1)
    assert all(lies_in(plan.search.parsed_space, values) for values in drawn)
    np.random.seed(7)  # BOHB has a random state of its own
    assert first_ones(1) == drawn
    assert first_ones(2) != drawn


def test_numpys_global_random_state_is_left_as_it_was() -> None:
    np.random.seed(3)
    expected = np.random.RandomState(3).rand()
    suggester = BohbSuggester(bohb_plan())
    for index in range(3):
        run_trial(suggester, index)
    assert np.random.rand() == expected


def test_it_learns_from_the_reports_that_trials_are_stopped_at() -> None:
    suggester = BohbSuggester(bohb_plan(TWO_FIELDS))
    values = [run_trial(suggester, index) for index in range(60)]
    assert far_off(values[30:]) < 0.5 * far_off(values[:10])


def test_it_learns_from_an_earlier_search() -> None:
    plan = bohb_plan(TWO_FIELDS)
    teacher = BohbSuggester(plan.model_copy(update={"seed": 1}))
    known = [run_trial(teacher, index) for index in range(40)]
    outside = {"optim.lr": 5.0, "optim.label_smoothing": 0.1}
    trials = [
        {"values": values, "status": "stopped", "results": [[1, 0.5], [3, accuracy_of(values)]]}
        for values in known
    ]
    trials.append({"values": outside, "status": "completed", "results": [[3, 1.0]]})
    event = {"event": "started_from", "source": "results/a", "points": [], "trials": trials}
    untaught, taught = BohbSuggester(plan), BohbSuggester(plan)
    taught.observe(event, Results(folder=Path()))
    first, others = (
        [one.suggest(index, {}) or {} for index in range(30)] for one in (taught, untaught)
    )
    assert far_off(first) < 0.5 * far_off(others)


def test_known_good_points_are_honoured_and_filled_in() -> None:
    plan = bohb_plan(TWO_FIELDS)
    suggester = BohbSuggester(plan)
    part = suggester.suggest(0, {"optim.lr": 0.25})
    whole = {"optim.lr": 0.5, "optim.label_smoothing": 0.0}
    assert suggester.suggest(1, whole) == whole
    assert part is not None
    assert part["optim.lr"] == 0.25
    assert lies_in(plan.search.parsed_space, part)
    assert suggester.suggest(2, {}) not in (None, part, whole)


def test_no_more_trials_run_than_may_and_a_paused_one_leaves_its_place() -> None:
    suggester = BohbSuggester(bohb_plan())
    assert suggester.set_max_concurrency(2)
    suggester.suggest(0, {})
    suggester.suggest(1, {"optim.lr": 0.25})
    with pytest.raises(NotNow, match="as many trials run"):
        suggester.suggest(2, {"optim.lr": 0.5})
    suggester.on_pause("t0001")
    third = suggester.suggest(2, {"optim.lr": 0.5})
    assert third is not None
    assert third["optim.lr"] == 0.5
    suggester.on_trial_complete("t0002", result_of(0.5, 1))
    suggester.on_unpause("t0001")
    with pytest.raises(NotNow, match="as many trials run"):
        suggester.suggest(3, {"optim.lr": 0.125})
    suggester.on_trial_complete("t0003", result_of(0.5, 1))
    later = suggester.suggest(3, {})
    assert later is not None
    assert later["optim.lr"] not in (0.125, 0.5)


def told(suggester: BohbSuggester) -> dict[int, int]:
    """How many configurations the model knows, by budget."""
    return {budget: len(known) for budget, known in suggester._bohb.bohber.configs.items()}


def test_a_report_counts_once_and_only_at_a_rung() -> None:
    suggester = BohbSuggester(bohb_plan())
    suggester.suggest(0, {})
    suggester.on_trial_result("t0001", {**result_of(0.5, 2), "hyperband_info": {}})
    at_rung = {**result_of(0.6, 3), "hyperband_info": {"budget": 3}}
    suggester.on_trial_result("t0001", at_rung)
    suggester.on_trial_result("t0001", at_rung)  # it crashed and repeats the epoch
    suggester.on_trial_complete("t0001", at_rung)
    assert told(suggester) == {3: 1}


def test_a_diverged_trial_counts_as_bad_at_the_next_rung_and_a_failed_one_not_at_all() -> None:
    suggester = BohbSuggester(bohb_plan())
    for index in range(4):
        suggester.suggest(index, {})
    suggester.on_trial_complete("t0001", result_of(0.0, 2, diverged=True))
    suggester.on_trial_complete("t0002", result_of(0.5, 3), error=True)
    suggester.on_trial_complete("t0003", {"done": True})
    suggester.on_trial_complete("t0004")
    suggester.on_trial_complete("t0099", result_of(0.5, 3))  # of an earlier start
    assert told(suggester) == {3: 1}
    assert suggester._bohb.bohber.losses[3] == [0.0]


def test_a_space_without_a_choice_is_refused() -> None:
    plan = bohb_plan("search.space={data.batch_size: {choice: [64]}}")
    with pytest.raises(PlanError, match=r"single value.*use --searcher grid"):
        BohbSuggester(plan)


@pytest.mark.parametrize(("epochs", "factor"), [(9, 3), (10, 3), (27, 2), (50, 4), (8, 3), (1, 3)])
def test_budgets_are_the_rungs_of_rays_brackets(epochs: int, factor: int) -> None:
    plan = bohb_plan(f"train.max_epochs={epochs}", f"search.reduction_factor={factor}")
    scheduler = build_scheduler(plan)
    rungs = {epochs}
    for halvings in range(scheduler._s_max_1):
        bracket = scheduler._create_bracket(halvings)
        while bracket._r0 > 0:
            rungs.add(bracket._cumul_r)
            if bracket._halves == 0:
                break
            bracket.successive_halving("val_accuracy", 1.0)
    assert set(budgets(plan)) == rungs


class Plain(Searcher):
    """The least that Ray needs of a searcher by a `BohbSuggester`: Ray's trial ids become ours."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(metric=plan.search.metric, mode=plan.search.mode)
        self.plan, self.suggester = plan, BohbSuggester(plan)
        self.created = 0
        self.live: dict[str, str] = {}
        self.paused: list[str] = []

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.created == self.plan.search.num_samples:
            return None if self.live else str(Searcher.FINISHED)
        try:
            values = self.suggester.suggest(self.created, {})
        except NotNow:
            return None
        self.live[trial_id] = id_of(self.created)
        self.created += 1
        return {"trial_id": self.live[trial_id], "values": values}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.suggester.on_trial_result(self.live[trial_id], result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self.suggester.on_trial_complete(self.live.pop(trial_id), result, error)

    def on_pause(self, trial_id: str) -> None:
        self.paused.append(self.live[trial_id])
        self.suggester.on_pause(self.live[trial_id])

    def on_unpause(self, trial_id: str) -> None:
        self.suggester.on_unpause(self.live[trial_id])

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        return self.suggester.set_max_concurrency(max_concurrent)


class Notes(tune.Callback):
    """Reports and ends, in their order."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self.ended: list[str] = []

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:
        self.reports.append({**result, "name": trial.config["trial_id"]})

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
        self.ended.append(trial.config["trial_id"])


def counting() -> Any:
    """A trainable that is best at lr 0.01; its checkpoint is its epoch."""

    def train(config: dict[str, Any]) -> None:
        restored, began = tune.get_checkpoint(), 0
        if restored is not None:
            began = json.loads((Path(restored.path) / "epoch.json").read_text())
        for epoch in range(began + 1, EPOCHS + 1):
            accuracy = 1 / (1 + abs(math.log10(config["values"]["optim.lr"] / 0.01)))
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / "epoch.json").write_text(json.dumps(epoch))
                metrics = {"epoch": epoch, "val_accuracy": accuracy, "diverged": False}
                checkpoint = tune.Checkpoint.from_directory(folder)
                tune.report({**metrics, "began": began}, checkpoint=checkpoint)

    return train


@pytest.fixture
def notes(ray_session: None, tmp_path: Path) -> tuple[Plain, Notes]:
    """A search of 12 trials of up to 9 epochs, two at a time."""
    plan, noted = bohb_plan(TWO_FIELDS, "search.num_samples=12"), Notes()
    searcher = Plain(plan)
    tune.Tuner(
        tune.with_resources(counting(), {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=build_scheduler(plan),
            num_samples=-1,
            max_concurrent_trials=2,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(storage_path=str(tmp_path), callbacks=[noted], verbose=0),
    ).fit()
    return searcher, noted


def test_a_search_ends_and_paused_trials_go_on_where_they_paused(
    notes: tuple[Plain, Notes],
) -> None:
    searcher, noted = notes
    names = [id_of(index) for index in range(12)]
    assert sorted(noted.ended) == names
    epochs = {
        name: [report["epoch"] for report in noted.reports if report["name"] == name]
        for name in names
    }
    assert all(seen == list(range(1, len(seen) + 1)) for seen in epochs.values())
    # A bracket of 9 that begins with 1 epoch, and 3 trials of one of 5 that begins with 3 epochs.
    assert Counter(map(len, epochs.values())) == {1: 6, 3: 3, 9: 3}
    went_on = {(report["name"], report["began"]) for report in noted.reports if report["began"]}
    assert len(went_on) >= 3
    assert all(name in searcher.paused for name, _ in went_on)
    assert {began for _, began in went_on} <= {1, 3}
    assert told(searcher.suggester) == {1: 9, 3: 6, 9: 3}
