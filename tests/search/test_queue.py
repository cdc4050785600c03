"""Which trial runs next: the journal's unfinished ones, then new ones, each journalled first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher
from search.searching import begin

from cifar_tune.errors import PlanError, StorageError
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.space import Value
from cifar_tune.record.journal import Journal
from cifar_tune.record.recorder import Recorder
from cifar_tune.search.configurations import Configurations
from cifar_tune.search.queue import TrialQueue
from cifar_tune.search.stop import StopRequest

PLAN = load_plan(None, ["search.num_samples=3", "search.scheduler=none"])


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    recorder = Recorder(Journal(tmp_path))
    begin(recorder, PLAN)
    return recorder


def queue_of(recorder: Recorder, suggester: Any = None) -> TrialQueue:
    return TrialQueue(recorder, suggester or Configurations(PLAN), StopRequest(None, ""))


def created(recorder: Recorder, count: int) -> None:
    for index in range(count):
        name, values = f"t{index + 1:04}", Configurations(PLAN)[index]
        recorder.write("trial_created", trial_id=name, index=index, seed=index, values=values)


def handed_out(queue: TrialQueue, ray_id: str) -> dict[str, Any]:
    given = queue.suggest(ray_id)
    assert isinstance(given, dict)
    return given


def test_unfinished_trials_come_first_then_new_ones_until_there_are_enough(
    recorder: Recorder,
) -> None:
    created(recorder, 2)
    recorder.write("trial_ended", trial_id="t0001", status="stopped", reason="")
    queue = queue_of(recorder)
    first, second = handed_out(queue, "a"), handed_out(queue, "b")
    assert (first["trial_id"], second["trial_id"]) == ("t0002", "t0003")
    assert second["values"] == Configurations(PLAN)[2] == recorder.results.trials["t0003"].values
    assert queue.suggest("c") is None  # one of them may come back
    queue.on_trial_complete("a")
    queue.on_trial_complete("b")
    assert queue.suggest("c") == Searcher.FINISHED


def test_a_trial_that_comes_back_is_handed_out_once_more_under_its_id(recorder: Recorder) -> None:
    queue = queue_of(recorder)
    handed_out(queue, "a")
    queue.on_trial_complete("a")
    for _ in range(2):
        queue.again(recorder.results.trials["t0001"])
    again = handed_out(queue, "b")
    assert (again["trial_id"], again["hand_out"]) == ("t0001", 2)
    assert handed_out(queue, "c")["trial_id"] == "t0002"


def test_one_that_ran_out_of_memory_waits_until_nothing_else_runs(recorder: Recorder) -> None:
    created(recorder, 1)
    recorder.write("trial_retried", trial_id="t0001", kind="out of memory", reason="")
    queue = queue_of(recorder)
    others = [handed_out(queue, ray_id)["trial_id"] for ray_id in "ab"]
    assert others == ["t0002", "t0003"]
    assert queue.suggest("c") is None
    queue.on_trial_complete("a")
    queue.on_trial_complete("b")
    assert handed_out(queue, "c")["alone"]
    assert queue.suggest("d") is None


class Raising:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def suggest(self, index: int, fixed: Mapping[str, Value]) -> None:
        raise self.error

    def observe(self, *_: Any) -> None:
        """Nothing is learnt."""


def test_a_disk_that_fails_is_told_with_the_way_back(recorder: Recorder) -> None:
    stop = StopRequest(None, "")
    full = Raising(OSError(28, "No space left on device", "/full/study.log"))
    told = r"No space left on device: /full/study\.log; free space .* python -m cifar_tune\.tune resume"
    with pytest.raises(StorageError, match=told):
        TrialQueue(recorder, full, stop).suggest("a")
    assert isinstance(stop.error, StorageError)


def test_a_searcher_of_the_users_own_that_raises_is_named(recorder: Recorder) -> None:
    search = PLAN.search.model_copy(update={"searcher": "my.code:factory"})
    recorder.results.plan = PLAN.model_copy(update={"search": search})
    queue = queue_of(recorder, Raising(KeyError("the third bolt")))
    with pytest.raises(
        PlanError,
        match=r"'my\.code:factory'; asked for trial 1 it raised KeyError: .*test_queue\.py:",
    ):
        queue.suggest("a")
