"""A Ray searcher of the user's own: what it is asked, what it is told, what is refused."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from ray.tune.search import Searcher
from search.remembered import InMemory
from told import Story

from cifar_tune.errors import PlanError
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.space import Value
from cifar_tune.search.suggester import NotNow, RaySearcherSuggester

SPACE = (
    "search.space={optim.lr: {loguniform: [0.01, 1.0]}, data.flip: {choice: [none, random]},"
    " data.crop_padding: {int: [1, 8], when: {data.flip: random}}}"
)
PLAN = load_plan(None, ["search.searcher=my.searchers:scripted", SPACE])


class Scripted(Searcher):
    """Suggests what it is given, in turn, and notes what it is told."""

    def __init__(self, *suggestions: Any, metric: Any = "val_accuracy", mode: Any = "max") -> None:
        super().__init__(metric=metric, mode=mode)
        self.suggestions = list(suggestions)
        self.calls: list[tuple[Any, ...]] = []

    def suggest(self, trial_id: str) -> Any:
        self.calls.append(("suggest", trial_id))
        return self.suggestions.pop(0)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.calls.append(
            ("result", trial_id, result["training_iteration"], result["val_accuracy"])
        )

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        accuracy = result and result["val_accuracy"]
        self.calls.append(("complete", trial_id, accuracy, error))


class Learner(Scripted):
    """Can be told of trials that it did not suggest."""

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        self.calls.append(("point", parameters, value, pruned, intermediate_values))


class Search(Story):
    """The driver's side: each event goes into the results first, then to the suggester."""

    def __init__(self, searcher: Searcher, recorder: InMemory | None = None) -> None:
        super().__init__(recorder or InMemory(PLAN))
        self.suggester = RaySearcherSuggester(self.recorder.results.plan, searcher)
        for event in self.recorder.events:
            self.suggester.observe(event, self.recorder.results)
        self.recorder.observers = (self.suggester.observe,)

    def next(self, fixed: dict[str, Value] | None = None) -> dict[str, Value] | None:
        values = self.suggester.suggest(len(self.recorder.results.trials), fixed or {})
        if values is not None:
            self.create(values)
        return values

    def restarted_with(self, searcher: Searcher) -> Search:
        """A new start: a fresh suggester is told what is recorded."""
        return Search(searcher, self.recorder)


def points(searcher: Scripted) -> list[tuple[Any, ...]]:
    return [call[1:] for call in searcher.calls if call[0] == "point"]


def test_suggestions_come_in_plain_values_under_our_trial_ids() -> None:
    suggested = {"optim.lr": np.float64(0.1), "data.flip": np.str_("random")}
    searcher = Scripted({**suggested, "data.crop_padding": np.int64(4)})
    values = Search(searcher).next()
    assert values == {"optim.lr": 0.1, "data.flip": "random", "data.crop_padding": 4}
    assert [type(value) for value in values.values()] == [float, str, int]
    assert searcher.calls == [("suggest", "t0001")]


def test_a_field_whose_condition_does_not_hold_is_left_out() -> None:
    searcher = Scripted({"data.crop_padding": 4, "data.flip": "none", "optim.lr": 0.1})
    assert Search(searcher).next() == {"optim.lr": 0.1, "data.flip": "none"}


def test_none_means_later_and_finished_means_no_more() -> None:
    search = Search(Scripted(None, Searcher.FINISHED))
    with pytest.raises(NotNow, match="Scripted has none"):
        search.next()
    assert search.next() is None


def test_a_trial_is_told_as_ray_would_tell_it() -> None:
    searcher = Scripted({"optim.lr": 0.1}, {"optim.lr": 0.2})
    search = Search(searcher)
    search.next()
    search.next()
    search.report("t0001", 1, 0.5)
    search.report("t0001", 2, 0.6)
    search.report("t0002", 1, 0.3, done=True)
    search.end("t0002", "stopped")
    search.report("t0001", 9, 0.9)
    search.end("t0001", "completed")
    assert searcher.calls[2:] == [
        ("result", "t0001", 1, 0.5),
        ("result", "t0001", 2, 0.6),
        ("complete", "t0002", 0.3, False),
        ("complete", "t0001", 0.9, False),
    ]


def test_failed_and_diverged_trials_are_errors_without_a_value() -> None:
    searcher = Scripted({"optim.lr": 0.1}, {"optim.lr": 0.2})
    search = Search(searcher)
    search.next()
    search.next()
    search.report("t0001", 1, 0.5)
    search.recorder.write("trial_retried", trial_id="t0001", kind="code", reason="")
    search.end("t0001", "failed")
    search.report("t0002", 1, 0.0, diverged=True)
    search.end("t0002", "diverged")
    ends = [call for call in searcher.calls if call[0] == "complete"]
    assert ends == [("complete", "t0001", None, True), ("complete", "t0002", None, True)]


def test_known_good_points_are_run_without_asking_and_told_at_their_end() -> None:
    searcher = Learner({"optim.lr": 0.1}, {"optim.lr": 0.2})
    search = Search(searcher)
    known = search.next({"optim.lr": 0.3, "data.flip": "none"})
    assert known == {"optim.lr": 0.3, "data.flip": "none"}
    assert search.next({"optim.lr": 0.4}) is not None
    assert searcher.calls == []
    search.report("t0001", 1, 0.5)
    search.next()
    assert points(searcher) == []
    search.report("t0001", 2, 0.6, done=True)
    search.next()
    assert points(searcher) == [(known, 0.6, True, [0.5, 0.6])]


def test_after_a_restart_it_is_told_what_is_recorded_once_each_trial_has_ended() -> None:
    search = Search(
        Scripted(*({"optim.lr": lr, "data.flip": "none"} for lr in (0.1, 0.2, 0.3, 5.0)))
    )
    for _ in range(4):
        search.next()
    search.report("t0001", 1, 0.5, done=True)  # its end was not written any more
    search.report("t0002", 1, 0.4)
    search.end("t0002", "interrupted")
    search.end("t0003", "failed")
    learner = Learner({"optim.lr": 0.6}, {"optim.lr": 0.7}, {"optim.lr": 0.8})
    restarted = search.restarted_with(learner)
    restarted.next()
    first = ({"optim.lr": 0.1, "data.flip": "none"}, 0.5, True, [0.5])
    assert points(learner) == [first]
    restarted.report("t0002", 9, 0.8)
    restarted.next()
    assert points(learner)[1:] == [({"optim.lr": 0.2, "data.flip": "none"}, 0.8, False, [0.4, 0.8])]
    restarted.next()
    assert len(points(learner)) == 2


def test_an_extended_trial_is_told_with_its_new_end() -> None:
    search = Search(Scripted({"optim.lr": 0.1, "data.flip": "none"}))
    search.next()
    search.report("t0001", 9, 0.5)
    longer = load_plan(
        None, ["search.searcher=my.searchers:scripted", SPACE, "train.max_epochs=18"]
    )
    search.recorder.write("extended", plan=longer.model_dump(mode="json"))
    learner = Learner({"optim.lr": 0.6}, {"optim.lr": 0.7})
    restarted = search.restarted_with(learner)
    restarted.next()
    assert points(learner) == []
    restarted.report("t0001", 18, 0.9)
    restarted.next()
    assert points(learner) == [({"optim.lr": 0.1, "data.flip": "none"}, 0.9, False, [0.5, 0.9])]


def test_an_earlier_search_is_told_where_its_trials_lie_in_the_space(
    caplog: pytest.LogCaptureFixture,
) -> None:
    learner = Learner({"optim.lr": 0.6}, {"optim.lr": 0.7})
    search = Search(learner)
    inside, outside = ({"optim.lr": lr, "data.flip": "none"} for lr in (0.1, 5.0))
    course = [[1, 0.2], [2, 0.4]]
    trials = [
        {"values": inside, "status": "completed", "results": course},
        {"values": outside, "status": "completed", "results": course},
        {"values": inside, "status": "diverged", "results": course},
        {"values": inside, "status": "failed", "results": []},
    ]
    search.recorder.write("started_from", source="results/a", points=[], trials=trials)
    search.next()
    search.next()
    assert points(learner) == [(inside, 0.4, False, [0.2, 0.4])]
    assert "Learner is not told of 1 trials outside search.space" in caplog.text


def test_one_that_can_not_be_told_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    search = Search(Scripted({"optim.lr": 0.1, "data.flip": "none"}))
    search.next()
    search.report("t0001", 9, 0.5)
    restarted = search.restarted_with(Scripted({"optim.lr": 0.2}))
    with caplog.at_level(logging.WARNING):
        restarted.next({"optim.lr": 0.3, "data.flip": "none"})
        restarted.report("t0002", 9, 0.6)
        restarted.next()
    assert "it starts without what 1 of them show" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("suggestion", "message"),
    [
        (
            {"optim.rate": 0.1},
            r"my.searchers:scripted.*Scripted suggested optim.rate, which is not",
        ),
        ({"optim.lr": -1.0}, r"Scripted suggested optim.lr: -1.0; Input should be greater than 0"),
        ({"optim.lr": "fast"}, r"Scripted suggested optim.lr: 'fast'; Input should be"),
        ({}, r"Scripted suggested {}; it must suggest {field: value}"),
        ([0.1], r"Scripted suggested \[0.1\]; it must"),
    ],
)
def test_a_suggestion_that_can_not_be_trained_is_refused(suggestion: Any, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Search(Scripted(suggestion)).next()


@pytest.mark.parametrize(
    ("metric", "mode", "message"),
    [
        ("mean_loss", "min", r"goes by 'mean_loss'; it must be one of val_accuracy, val_loss"),
        (["val_loss", "epoch"], ["min", "min"], r"goes by \['val_loss', 'epoch'\]"),
        ("val_accuracy", "min", r"has mode 'min' for val_accuracy; give it mode 'max'"),
    ],
)
def test_a_searcher_with_another_goal_is_refused(metric: Any, mode: Any, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Search(Scripted(metric=metric, mode=mode))


def test_a_searcher_without_a_metric_gets_the_plans() -> None:
    class Asking(Scripted):
        def set_search_properties(
            self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
        ) -> bool:
            self._metric, self._mode = metric, mode
            return True

    searcher = Asking(metric=None, mode=None)
    Search(searcher)
    assert (searcher.metric, searcher.mode) == ("val_accuracy", "max")


def test_rays_own_optuna_searcher_works() -> None:
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    space = {"optim.lr": tune.loguniform(0.01, 1.0), "data.flip": tune.choice(["none", "random"])}
    made = OptunaSearch(space, metric="val_accuracy", mode="max", seed=1)
    search = Search(made)
    for number in range(1, 4):
        assert search.next() is not None
        search.report(f"t{number:04}", 1, number / 10, done=True)
    assert [trial.value for trial in made._ot_study.trials] == [0.1, 0.2, 0.3]
