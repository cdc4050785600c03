"""The table of all trials, in rows that a page can show and sort."""

from __future__ import annotations

from dataclasses import dataclass

from cifar_tune.plan.space import Value
from cifar_tune.plan.task import columns_of
from cifar_tune.record.ranking import best_epoch
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial


@dataclass(frozen=True, kw_only=True)
class Row:
    """One trial; none where it has no such figure. `figures` are those of the plan's columns."""

    trial_id: str
    status: str
    epochs: int
    best_epoch: int | None
    figures: list[float | None]
    seconds: float
    values: list[Value]
    is_best: bool


def trial_rows(results: Results) -> list[Row]:
    """A row a trial, in the order of suggestion."""
    trials = sorted(results.trials.values(), key=lambda trial: trial.index)
    return [_row(trial, results) for trial in trials]


def _row(trial: Trial, results: Results) -> Row:
    search = results.plan.search
    epoch = best_epoch(trial, search) if trial.curve(search.metric) else None
    metrics = {} if epoch is None else trial.results[epoch]
    values = trial.values_at(epoch or trial.epochs)
    return Row(
        trial_id=trial.trial_id,
        status=trial.status,
        epochs=trial.epochs,
        best_epoch=epoch,
        figures=[metrics.get(name) for name in columns_of(results.plan)],
        seconds=trial.busy_seconds,
        values=[values.get(name) for name in search.space],
        is_best=trial is results.best(),
    )
