"""The final models: where they are kept, and which of them is handed over."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cifar_tune.files import FINALS, MODEL, at_hand, write_atomically
from cifar_tune.finals.retraining import model_of
from cifar_tune.plan.abilities import Combines
from cifar_tune.plan.section import dump_yaml
from cifar_tune.plan.task import task_of
from cifar_tune.record.results import Results
from cifar_tune.search.session import Session

ENSEMBLE = "ensemble"

Model = dict[str, Any]
"""A model as the journal has it: `file` in the results folder, `sha256`, `seed`; the one that is
handed over also has its `kind`: final, ensemble or (without finals) winner."""


def keep_models(
    folder: Path, trainings: Results, done: Sequence[Model], *, first: int
) -> list[Model]:
    """Copy the completed final trainings to `finals/seed-*/`; their files, hashes and seeds.

    Args:
        trainings: all have ended.
        done: earlier final models of the same configuration, which come first.
        first: number of the first of these trainings' folders.
    """
    models = list(done)
    completed = [t for t in trainings.trials.values() if t.status == "completed"]
    for trial in completed:
        home = folder / FINALS / f"seed-{first + trial.index}"
        home.mkdir(parents=True, exist_ok=True)
        with at_hand(model_of(trainings, trial)) as checkpoint:
            content = checkpoint.read_bytes()
        write_atomically(home / MODEL, content)
        write_atomically(
            home / "config.yaml", dump_yaml(trainings.plan.run(trial.values, trial.index))
        )
        figures = {"seed": trial.seed, "epochs": trial.epochs, "train": trainings.data["train"]}
        write_atomically(home / "metrics.json", json.dumps(figures, indent=2) + "\n")
        models.append(model_at(folder, home / MODEL, trial.seed))
    current = {Path(model["file"]).parent.name for model in models}
    for home in (folder / FINALS).glob("seed-*"):
        if home.name not in current:  # of earlier finals with more seeds
            shutil.rmtree(home)
    return models


def model_at(folder: Path, path: Path, seed: int | None) -> Model:
    """A model that lies there, below the results folder."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": str(path.relative_to(folder)), "sha256": digest, "seed": seed}


def model_to_hand_over(session: Session, models: Sequence[Model]) -> Model:
    """The one that the results folder will stand for, before the test split is opened.

    The first, which is no choice; or, if that is asked for, the mean of all as a model of its own.
    """
    task, folder = task_of(session.plan), session.folder
    target = folder / FINALS / ENSEMBLE / MODEL
    if not session.plan.finals.ensemble or len(models) < 2:
        shutil.rmtree(target.parent, ignore_errors=True)
        return {"kind": "final", **models[0]}
    assert isinstance(task, Combines)  # as the start has checked
    task.combine([folder / model["file"] for model in models], target)
    return {"kind": ENSEMBLE, **model_at(folder, target, None)}
