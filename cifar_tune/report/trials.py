"""The table of all trials, in rows that a page can show and sort."""

from __future__ import annotations

from dataclasses import dataclass

from cifar_tune.plan.space import Value
from cifar_tune.record.ranking import best_epoch
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial
from cifar_tune.report.judged import curve_of


@dataclass(frozen=True, kw_only=True)
class Row:
    """One trial; none where it has no such figure."""

    trial_id: str
    status: str
    epochs: int
    best_epoch: int | None
    accuracy: float | None
    loss: float | None
    seconds: float
    values: list[Value]
    is_best: bool


def trial_rows(results: Results) -> list[Row]:
    """A row a trial, in the order of suggestion."""
    trials = sorted(results.trials.values(), key=lambda trial: trial.index)
    return [_row(trial, results) for trial in trials]


def _row(trial: Trial, results: Results) -> Row:
    search = results.plan.search
    # A diverged trial's stand-in is not a figure of its own.
    known = trial.usable or bool(curve_of(trial, search.metric))
    epoch = best_epoch(trial, search) if known and trial.results else None
    values = trial.values_at(epoch or trial.epochs)
    return Row(
        trial_id=trial.trial_id,
        status=trial.status,
        epochs=trial.epochs,
        best_epoch=epoch,
        accuracy=None if epoch is None else trial.results[epoch]["val_accuracy"],
        loss=None if epoch is None else trial.results[epoch]["val_loss"],
        seconds=trial.busy_seconds,
        values=[values.get(name) for name in search.space],
        is_best=trial is results.best(),
    )
