"""The files of a results folder that are made from the journal: the tables, and the settings."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Mapping
from typing import Any

from cifar_tune.errors import counted
from cifar_tune.files import write_atomically
from cifar_tune.plan.abilities import score_name
from cifar_tune.plan.config import Plan
from cifar_tune.plan.section import dump_yaml
from cifar_tune.plan.task import columns_of
from cifar_tune.record.front import front
from cifar_tune.record.journal import AGAIN, Event, confirm_command
from cifar_tune.record.ranking import best_epoch
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial

FIRST_COLUMNS = ("trial_id", "status", "epochs", "best_epoch")  # then the task's, then the rest
LAST_COLUMNS = ("seed", "wall_seconds")
OF_EVENT = {"seq", "event", "time", "crc", "number", "trial_id", "epoch"}
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
        began = time.monotonic()
        if event["event"] not in ("result", "trial_ended") or began < self._next:
            return
        write_tables(results)
        ended = time.monotonic()
        self._next = ended + max(5.0, 20 * (ended - began))


def trials_csv(results: Results, *, exact: bool = False) -> str:
    """A row a trial, in the order of suggestion; fractions as people read them, or exact."""
    plan, text = results.plan, io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*FIRST_COLUMNS, *columns_of(plan), *LAST_COLUMNS, *plan.search.space])
    for trial in sorted(results.trials.values(), key=lambda trial: trial.index):
        cells = _row(trial, plan)
        writer.writerow(cells if exact else map(_readable, cells))
    return text.getvalue()


def _readable(cell: Any) -> Any:
    return f"{cell:.{DIGITS}g}" if isinstance(cell, float) else cell


def _row(trial: Trial, plan: Plan) -> list[Any]:
    best = best_epoch(trial, plan.search) if trial.results else 0
    metrics, values = trial.results.get(best, {}), trial.values_at(best or trial.epochs)
    wall = trial.ended - trial.created if trial.ended else 0.0
    figures = [metrics.get(name, "") for name in columns_of(plan)]
    searched = [values.get(name, "") for name in plan.search.space]
    first = [trial.trial_id, trial.status, trial.epochs, best or ""]
    return [*first, *figures, trial.seed, round(wall, 3), *searched]


def summarise(results: Results) -> dict[str, Any]:
    return {
        "name": results.folder.name,
        "dataset": results.data,
        "trials": results.counts(),
        "best": results.winner(),
        **_front(results),
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


def _front(results: Results) -> dict[str, Any]:
    """Of a search with several objectives, the trials that none is better than in all of them."""
    goals = results.plan.search.goals
    if len(goals) == 1:
        return {}
    names = [goal.metric for goal in goals]
    told = front(results).items()
    return {"front": [{"trial_id": one, **dict(zip(names, v, strict=True))} for one, v in told]}


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
    """What the finals came to: the newest comparison, and the test scores; none before either.

    One score has neither deviation nor interval: those come with more seeds. What the comparison
    does not know, or the scores are not of, is said in `note`.
    """
    scored, winner = results.test_scored, results.winner()
    confirmed = next(reversed(results.confirmed.values()), None)
    if confirmed and scored and scored.get("number", 0) > confirmed["number"]:
        confirmed = None  # of other trials: the newest finals had one candidate
    told = scored or confirmed
    if told is None or winner is None or not _is_current(winner, told):
        return None
    scores = f"test_{score_name(results.plan)}"
    none: dict[str, Any] = {
        "seeds": [],
        scores: [],
        **dict.fromkeys(("mean", "std", "ci95", "lost")),
    }
    score = {k: v for k, v in {**none, **(scored or {})}.items() if k not in OF_EVENT}
    return {
        "trial_id": told["trial_id"],
        **score,
        "config": results.trials[told["trial_id"]].values_at(told["epoch"]),
        "openings": results.test_openings,
        "model": _model_of(results),
        "optimism": confirmed["optimism"] if confirmed else None,
        "confirm": confirmed["confirm"] if confirmed else None,
        "note": _note(results, winner, told, confirmed),
    }


def _model_of(results: Results) -> Mapping[str, Any] | None:
    """The model in `best/` and its score; none while it is another, or was never handed over."""
    scored, handed = results.test_scored, results.handed_over
    if scored is None or not scored.get("number"):
        return None if scored is None else scored.get("model")
    current = handed is not None and handed["seq"] > scored["seq"]
    return handed["model"] if handed is not None and current else None


def model_in_words(model: Mapping[str, Any], scored: Mapping[str, Any]) -> str:
    """Which of a search's models is handed over, given how the final ones scored."""
    count, of = len(scored["seeds"]), f"of {scored['trial_id']}'s configuration"
    if model["kind"] == "winner":
        return f"the winner of the search, {scored['trial_id']}"
    if model["kind"] == "ensemble":
        return f"the mean of {count} final models {of}"
    return f"the first of {count} final models {of}" if count > 1 else f"the final model {of}"


def told_of_new(scored: Mapping[str, Any]) -> str:
    """What the interval of the mean score is for: the spread over examples is in it, or not."""
    return "a new training on new data" if scored.get("examples", 2) > 1 else "a new training"


def confirm_best(results: Results) -> str:
    """The command that holds finals among the best."""
    finals = results.plan.finals
    again = [f"--candidates {finals.candidates}"] if finals.trials else []
    return confirm_command(results.folder, *again)


def _is_current(winner: Mapping[str, Any], told: Event) -> bool:
    """Without finals the winner alone is scored: a search that goes on may find another."""
    return told.get("number", 0) > 0 or all(told[k] == winner[k] for k in ("trial_id", "epoch"))


def _note(results: Results, winner: Mapping[str, Any], told: Event, confirmed: Event | None) -> str:
    """What the finals know nothing of, and what there is to do; empty if nothing is amiss."""
    command = confirm_best(results)
    if results.test_openings:
        command += f" {AGAIN} (which is recorded)"
    newest = max(results.finals, default=0)
    trials, epochs = results.known_to.get(newest, (len(results.trials), results.epochs_run))
    newer = len(results.trials) - trials, results.epochs_run - epochs
    if newest and any(newer):
        what = counted(newer[0], "trial") if newer[0] else counted(newer[1], "epoch")
        return (
            f"The finals know nothing of {what} that came after them; {winner['trial_id']} leads"
            f" the search now. To compare anew: {command}"
        )
    if confirmed and confirmed["trial_id"] != told["trial_id"]:
        return (
            f"The test score is that of {told['trial_id']}; since then {confirmed['trial_id']} was"
            f" found better. To train that for good and score it: {command}"
        )
    return ""
