"""The best enter the finals, each configuration once, and no more of them than a time holds."""

from __future__ import annotations

import pytest
from search.remembered import InMemory

from cifar_tune.finals.candidates import fitting, forecast_seconds, pick_candidates
from cifar_tune.plan.load import load_plan
from cifar_tune.record.results import Results

SIZES = {"train": 40_000, "val": 5000, "confirm": 5000}


def search_of(
    *accuracies: float, lr: list[float] | None = None, sets: list[str] | None = None
) -> Results:
    """Completed trials of one epoch of 10 s each."""
    plan = load_plan(None, ["train.max_epochs=1", *(sets or [])])
    recorder = InMemory(plan)
    recorder.results.data = SIZES
    for index, accuracy in enumerate(accuracies):
        name = f"t{index + 1:04}"
        values = {"optim.lr": lr[index] if lr else 0.1 + index}
        metrics = {
            "epoch": 1, "val_accuracy": accuracy, "val_loss": 1.0,
            "first_step_at": 100.0 * index, "reported_at": 100.0 * index + 10,
        }  # fmt: skip
        recorder.write("trial_created", trial_id=name, index=index, seed=index, values=values)
        fate = {"checkpoint": None, "done": True, "diverged": False}
        recorder.write("result", trial_id=name, metrics=metrics, **fate)
    return recorder.results


def test_candidates_are_the_best_by_validation_best_first() -> None:
    results = search_of(0.5, 0.8, 0.7, 0.6)
    assert [one.trial_id for one in pick_candidates(results, 3)] == ["t0002", "t0003", "t0004"]
    assert pick_candidates(results, 1)[0].value == 0.8


def test_a_configuration_enters_once() -> None:
    results = search_of(0.8, 0.7, 0.6, lr=[0.1, 0.1, 0.2])
    assert [one.trial_id for one in pick_candidates(results, 3)] == ["t0001", "t0003"]


def test_the_forecast_counts_rounds_of_trainings_by_the_mean_epoch() -> None:
    results = search_of(0.5, 0.6)
    # 20 s to start, 3 rounds of 10 s on 50,000 / 40,000 of the images; confirming 8 rounds and 20 s
    assert forecast_seconds(results, 1, 5, 2) == pytest.approx(20 + 3 * 12.5)
    assert forecast_seconds(results, 3, 5, 2) == pytest.approx(20 + 3 * 12.5 + 20 + 8 * 10)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(1000, (3, 5)), (140, (2, 5)), (60, (1, 5)), (50, (1, 4)), (33, (1, 2)), (20, None)],
)
def test_candidates_are_given_up_before_seeds(
    seconds: float, expected: tuple[int, int] | None
) -> None:
    size = fitting(search_of(0.5, 0.6), seconds, slots=2)
    assert expected == (None if size is None else (size.candidates, size.seeds))
