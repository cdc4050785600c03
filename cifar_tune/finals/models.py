"""The final models: where they are kept."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cifar_tune.files import FINALS, MODEL, at_hand, write_atomically
from cifar_tune.finals.retraining import newest_checkpoint
from cifar_tune.plan.section import dump_yaml
from cifar_tune.record.results import Results


def keep_models(
    folder: Path, trainings: Results, done: Sequence[dict[str, Any]], *, first: int
) -> list[dict[str, Any]]:
    """Copy the completed final trainings to `finals/seed-*/`; their files, hashes and seeds.

    Args:
        folder: the results folder.
        trainings: all have ended.
        done: earlier final models of the same configuration, which come first.
        first: number of the first of these trainings' folders.
    """
    models = list(done)
    completed = [t for t in trainings.trials.values() if t.status == "completed"]
    for trial in completed:
        home = folder / FINALS / f"seed-{first + trial.index}"
        home.mkdir(parents=True, exist_ok=True)
        with at_hand(newest_checkpoint(trainings, trial)) as checkpoint:
            content = checkpoint.read_bytes()
        write_atomically(home / MODEL, content)
        write_atomically(
            home / "config.yaml", dump_yaml(trainings.plan.run(trial.values, trial.index))
        )
        figures = {"seed": trial.seed, "epochs": trial.epochs, "train": trainings.data["train"]}
        write_atomically(home / "metrics.json", json.dumps(figures, indent=2) + "\n")
        models.append(
            {
                "file": str((home / MODEL).relative_to(folder)),
                "sha256": hashlib.sha256(content).hexdigest(),
                "seed": trial.seed,
            }
        )
    current = {Path(model["file"]).parent.name for model in models}
    for home in (folder / FINALS).glob("seed-*"):
        if home.name not in current:  # of earlier finals with more seeds
            shutil.rmtree(home)
    return models
