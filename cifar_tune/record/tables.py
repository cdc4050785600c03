"""The files of a results folder that are made from the journal: the tables, and the settings."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Mapping
from typing import Any

from cifar_tune.files import write_atomically
from cifar_tune.plan.config import SearchConfig, dump_yaml
from cifar_tune.record.journal import Event
from cifar_tune.record.results import Results, best_epoch
from cifar_tune.record.trials import Trial

COLUMNS = (
    "trial_id", "status", "epochs", "best_epoch", "val_accuracy", "val_loss", "seed",
    "wall_seconds",
)  # fmt: skip

DIGITS = 6  # of a fraction that people read


def write_tables(results: Results) -> None:
    """Write `trials.csv` and `summary.json`, each by atomic rename."""
    write_atomically(results.folder / "trials.csv", trials_csv(results))
    summary = json.dumps(summarise(results), indent=2, ensure_ascii=False) + "\n"
    write_atomically(results.folder / "summary.json", summary)


def write_settings(results: Results) -> None:
    """Write `plan.yaml` and `environment.json`, each by atomic rename."""
    write_atomically(results.folder / "plan.yaml", dump_yaml(results.plan))
    environment = json.dumps(results.environment, indent=2) + "\n"
    write_atomically(results.folder / "environment.json", environment)


class TableWriter:
    """Keeps the tables fresh while a search runs, for at most a twentieth of the time."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, event: Event, results: Results) -> None:
        """Observe one event of the journal."""
        began = time.monotonic()
        if event["event"] not in ("result", "trial_ended") or began < self._next:
            return
        write_tables(results)
        ended = time.monotonic()
        self._next = ended + max(5.0, 20 * (ended - began))


def trials_csv(results: Results, *, exact: bool = False) -> str:
    """A row a trial, in the order of suggestion; fractions as people read them, or exact."""
    fields = list(results.plan.search.space)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *fields])
    for trial in sorted(results.trials.values(), key=lambda trial: trial.index):
        row = _row(trial, results.plan.search)
        values = trial.values_at(row[3] or trial.epochs)
        cells = [*row, *(values.get(name, "") for name in fields)]
        writer.writerow(cells if exact else map(_readable, cells))
    return text.getvalue()


def _readable(cell: Any) -> Any:
    return f"{cell:.{DIGITS}g}" if isinstance(cell, float) else cell


def _row(trial: Trial, search: SearchConfig) -> list[Any]:
    best = best_epoch(trial, search) if trial.results else ""
    metrics: Mapping[str, Any] = trial.results[int(best)] if best else {}
    wall = trial.ended - trial.created if trial.ended else 0.0
    return [
        trial.trial_id, trial.status, trial.epochs, best, metrics.get("val_accuracy", ""),
        metrics.get("val_loss", ""), trial.seed, round(wall, 3),
    ]  # fmt: skip


def summarise(results: Results) -> dict[str, Any]:
    """The content of `summary.json`."""
    return {
        "name": results.folder.name,
        "dataset": results.data,
        "trials": results.counts(),
        "best": results.winner(),
        "failures": failures(results),
        "finals": finals_of(results),
        "cost": results.cost(),
        "resources": {
            "cpus_per_trial": results.plan.resources.cpus_per_trial,
            "gpus_per_trial": results.plan.resources.gpus_per_trial,
            "slots": results.starts[-1].slots if results.starts else 0,
        },
        "versions": results.environment.get("versions", {}),
    }


def failures(results: Results) -> list[dict[str, Any]]:
    """The trials that failed or diverged, each with its kind and reason."""
    return [
        {
            "trial_id": trial.trial_id,
            "kind": trial.failures[-1] if trial.status == "failed" else trial.status,
            "tries": max(1, len(trial.failures)),
            "epochs": trial.epochs,
            "reason": trial.reason,
        }
        for trial in results.trials.values()
        if trial.status in ("failed", "diverged")
    ]


def finals_of(results: Results) -> dict[str, Any] | None:
    """What the finals came to: the comparison, and the test scores; none before either.

    One score has neither deviation nor interval: those come with more seeds.
    """
    scored, winner = results.test_scored, results.winner()
    told = scored or next(reversed(results.confirmed.values()), None)
    if told is None or winner is None or not _is_current(results, winner, told):
        return None
    trial = results.trials[told["trial_id"]]
    confirmed = results.confirmed.get(told.get("number", 0))
    score: Mapping[str, Any] = scored or {"seeds": [], "test_accuracy": []}
    keys = (
        "seeds",
        "test_accuracy",
        "mean",
        "std",
        "ci95",
        "test_images",
        "flip_averaging",
        "lost",
    )
    return {
        "trial_id": told["trial_id"],
        **{key: score.get(key) for key in keys},
        "config": trial.values_at(told["epoch"]),
        "openings": results.test_openings,
        "optimism": confirmed["optimism"] if confirmed else None,
        "confirm": confirmed["confirm"] if confirmed else None,
    }


def _is_current(results: Results, winner: Mapping[str, Any], told: Event) -> bool:
    """Whether finals were held for the winner of now: a search that goes on may find another."""
    began = results.finals.get(told.get("number", 0))
    judged = began["candidates"][0] if began else told  # without finals the winner alone is scored
    return all(judged[key] == winner[key] for key in ("trial_id", "epoch"))
