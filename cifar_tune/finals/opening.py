"""The one opening of the test split, in a recorded event, and the scores that it gives."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cifar_tune.errors import PlanError, ResultsError
from cifar_tune.finals.models import ENSEMBLE, Model, model_at
from cifar_tune.finals.uncertainty import (
    MIN_SEEDS,
    alike,
    interval_of_mean,
    interval_of_model,
    standard_deviation,
)
from cifar_tune.plan.abilities import Scores, score_name
from cifar_tune.plan.config import Plan
from cifar_tune.plan.finals_config import FinalsConfig
from cifar_tune.plan.task import task_of
from cifar_tune.record.journal import AGAIN, confirm_command
from cifar_tune.record.ranking import best_epoch
from cifar_tune.record.results import Results
from cifar_tune.search.session import Session

Subject = dict[str, Any]
"""Whose models are scored: `number` of the finals (0: none, the winner alone), and for that winner
`trial_id` and `epoch`, which finals settle on their way."""


def scoring(plan: Plan) -> Scores:
    """The plan's task, which can score models on what is held out.

    Raises:
        PlanError: it can't.
    """
    task = task_of(plan)
    if not isinstance(task, Scores):
        raise PlanError(f"task is {plan.task!r}, which can't score models on what is held out")
    return task


def look_at(
    results: Results, subject: Subject, *, again: bool
) -> Literal["open", "finish", "done", "closed"]:
    """What there is to do: a look, the rest of one that was interrupted, or nothing any more.

    `closed` is the split once it was opened for others, and nobody asked for it `again`.
    """
    opened = results.test_opened
    if opened is None:
        return "open"
    same = all(opened.get(key, 0) == value for key, value in subject.items())
    if same and results.test_pending:
        return "finish"
    if again:
        return "open"
    return "done" if same else "closed"


def score_models(
    session: Session,
    subject: Subject,
    models: Sequence[Model],
    handed: Model,
    *,
    lost: Mapping[str, int],
    again: bool = False,
) -> None:
    """Open the test split, or finish its opening, and score all models on it.

    Args:
        subject: `number`, `trial_id` and `epoch`.
        models: at least one.
        handed: the one that is handed over: one of them, or their mean.
        lost: trainings that gave no model, by what became of them.

    Raises:
        ResultsError: a model is not the one whose hash is given, or the split stays closed.
        StorageError, DataError: as the journal and the data room.
    """
    results, folder = session.results, session.folder
    _check_models(folder, [*models, handed])
    look = look_at(results, subject, again=again)
    if look == "open":
        session.recorder.write(
            "test_opened",
            **subject,
            fingerprint=session.data.fingerprint,
            models=list(models),
            model=handed,
            lost=dict(lost),
            **_how(results.plan),
            again=results.test_opened is not None,
        )
    opened = results.test_opened
    if look in ("done", "closed") or opened is None or opened.get("models") != list(models):
        raise ResultsError(closed(results))
    _record(session, subject, opened, handed)


def _record(session: Session, subject: Subject, opened: dict[str, Any], handed: Model) -> None:
    task, plan = scoring(session.plan), session.plan
    examples = task.held_out(session.data, "test", plan)
    plan = plan.model_copy(update={"finals": plan.finals.model_copy(update=_how(plan, opened))})
    files = [model["file"] for model in opened["models"]]
    by_file = {
        file: task.score(session.folder / file, examples, plan)
        for file in dict.fromkeys([*files, handed["file"]])
    }
    *figures_of_all, own = alike([*(by_file[file] for file in files), by_file[handed["file"]]])
    figures = np.stack(figures_of_all)
    scores = [float(score) for score in figures.mean(axis=1)]
    session.recorder.write(
        "test_scored",
        **subject,
        seeds=[model["seed"] for model in opened["models"]],
        **{f"test_{score_name(plan)}": scores},
        mean=float(np.mean(scores)),
        std=standard_deviation(scores) if len(scores) >= MIN_SEEDS else None,
        ci95=_listed(interval_of_mean(figures)),
        examples=figures.shape[1],
        model={**handed, "score": float(own.mean()), "ci95": _listed(interval_of_model(own))},
        **_how(plan, opened),
        lost=opened["lost"],
    )


def _listed(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _how(plan: Plan, recorded: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The task's own fields of the finals: as the plan has them, or as they were recorded."""
    fields = type(plan.finals).model_fields.items()
    own = {name: field.default for name, field in fields if name not in FinalsConfig.model_fields}
    if recorded is None:
        return {name: getattr(plan.finals, name) for name in own}
    return {name: recorded.get(name, default) for name, default in own.items()}


def handed_in(opened: Mapping[str, Any]) -> Model:
    """The model that is handed over of those that the split was opened for."""
    return opened.get("model") or {"kind": "final", **opened["models"][0]}  # earlier versions


def scored_as_asked(plan: Plan, opened: Mapping[str, Any]) -> bool:
    """Whether what the split was opened for is what the plan of now would open it for."""
    ensemble = plan.finals.ensemble and len(opened["models"]) > 1
    same_model = (handed_in(opened)["kind"] == ENSEMBLE) == ensemble
    return same_model and _how(plan, opened).items() <= _how(plan).items()


def _check_models(folder: Path, models: Sequence[Model]) -> None:
    for model in models:
        path = folder / model["file"]
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != model["sha256"]:
            raise ResultsError(
                f"{path} is gone or not the model that the finals trained; put it back, or hold"
                " other finals, which is recorded:"
                f" {confirm_command(folder, AGAIN, '--final-seeds N')} with another N"
            )


def closed(results: Results) -> str:
    """Why the test split stays closed, and how to open it all the same."""
    opened = results.test_opened
    assert opened is not None
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(opened["time"]))
    names = results.plan.finals.trials
    named = [f"--trials {','.join(names)}"] if names else []
    return (
        f"The test split was opened for {opened['trial_id']} on {when}, and stays closed: a second"
        " look would make its score a choice. To look all the same, which is recorded:"
        f" {confirm_command(results.folder, *named, AGAIN)}"
    )


def score_winner(session: Session, checkpoint: Path, *, again: bool = False) -> None:
    """Without finals: score `best/` alone on the test split, as one model of one seed.

    Raises:
        ResultsError, StorageError, DataError: as `score_models`.
    """
    results = session.results
    winner = results.best()
    assert winner is not None, "best/ exists, so there is a winner"
    epoch = best_epoch(winner, results.plan.search)
    subject = {"number": 0, "trial_id": winner.trial_id, "epoch": epoch}
    look = look_at(results, subject, again=again)
    if look == "closed":
        session.say(closed(results))
    if look in ("closed", "done"):
        return
    model = model_at(session.folder, checkpoint, winner.seed)
    score_models(session, subject, [model], {"kind": "winner", **model}, lost={}, again=again)
