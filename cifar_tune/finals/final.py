"""The final models, and the one opening of the test split that scores them."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cifar_tune.config import dump_yaml
from cifar_tune.data import Dataset, Images, SearchData
from cifar_tune.data.held_out import open_confirm_split, open_test_split
from cifar_tune.errors import ResultsError
from cifar_tune.results import Recorder, Results, Say, Trial, best_epoch, write_atomically
from cifar_tune.uncertainty import Correct, accuracy_interval, standard_deviation

MODEL = "model.ckpt"
WATCHED = 1000  # images that a final training validates on, which it also trains on


def correct_on(
    checkpoint: Path, images: Images, *, gpu: bool, flip_averaging: bool = False
) -> Correct:
    """Which images a model gets right: [images]."""
    from cifar_tune.evaluate import predict_logits  # torch costs seconds

    logits = predict_logits(checkpoint, images, gpu=gpu, flip_averaging=flip_averaging)
    correct: Correct = logits.argmax(dim=1).numpy() == images.labels
    return correct


def all_training_images(dataset: Dataset, data: SearchData, results: Results) -> SearchData:
    """Training, validation and confirmation images as one training set.

    Nothing is left to validate on: the `val_*` figures of a final training are those of some of
    its training images, and nothing is decided by them.
    """
    held = open_confirm_split(dataset, results.plan.data)
    return replace(
        data,
        train_images=np.concatenate([data.train_images, data.val_images, held.images]),
        train_labels=np.concatenate([data.train_labels, data.val_labels, held.labels]),
        val_images=data.val_images[:WATCHED],
        val_labels=data.val_labels[:WATCHED],
    )


def keep_models(folder: Path, trainings: Results) -> list[dict[str, Any]]:
    """Copy the completed final trainings to `finals/seed-*/`; their files, hashes and seeds."""
    models: list[dict[str, Any]] = []
    completed = [t for t in trainings.trials.values() if t.status == "completed"]
    for trial in completed:
        home = folder / "finals" / f"seed-{trial.index + 1}"
        home.mkdir(parents=True, exist_ok=True)
        content = newest_checkpoint(trainings, trial).read_bytes()
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
    for home in (folder / "finals").glob("seed-*"):
        if home.name not in current:  # of earlier finals with more seeds
            shutil.rmtree(home)
    return models


def newest_checkpoint(trainings: Results, trial: Trial) -> Path:
    """Where the last epoch of a completed training lies."""
    return trainings.folder / trial.checkpoints[trial.epochs]


def score_models(
    recorder: Recorder,
    dataset: Dataset,
    subject: dict[str, Any],
    models: Sequence[dict[str, Any]],
    *,
    again: bool = False,
) -> None:
    """Open the test split in one recorded event, and score all models on it.

    An opening that was recorded and not finished is finished: it is the same opening.

    Args:
        recorder: of the search.
        dataset: its test split is opened.
        subject: `trial_id`, `epoch` and `number` of the finals that the models come from.
        models: `file` in the results folder, `sha256`, `seed`; at least one.
        again: whether this is another look, which the user asked for.

    Raises:
        ResultsError: a model is not the one whose hash is given, or the split was opened for
            others and `again` is not given.
        StorageError, DataError: as the journal and the data room.
    """
    results, folder = recorder.results, recorder.journal.folder
    _check_models(folder, models)
    opened = results.test_opened
    if opened is None or results.test_scored is not None or opened["models"] != list(models):
        if opened is not None and not again:
            raise ResultsError(closed(results))
        recorder.write(
            "test_opened",
            **subject,
            fingerprint=dataset.fingerprint,
            models=list(models),
            again=again,
        )
    test, flip = open_test_split(dataset), results.plan.finals.flip_averaging
    correct = [
        correct_on(folder / model["file"], test, gpu=results.plan.on_gpu, flip_averaging=flip)
        for model in models
    ]
    scores = [float(right.mean()) for right in correct]
    interval = accuracy_interval(np.stack(correct))
    recorder.write(
        "test_scored",
        **subject,
        seeds=[model["seed"] for model in models],
        test_accuracy=scores,
        mean=float(np.mean(scores)),
        std=standard_deviation(scores) if len(scores) > 2 else None,
        ci95=None if interval is None else list(interval),
        test_images=len(test),
        flip_averaging=flip,
    )


def _check_models(folder: Path, models: Sequence[dict[str, Any]]) -> None:
    for model in models:
        path = folder / model["file"]
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != model["sha256"]:
            raise ResultsError(
                f"{path} is gone or not the model that was trained for the finals; put it back, or"
                f" train anew with: cifar-tune confirm {folder} --final-seeds N with another N"
            )


def closed(results: Results) -> str:
    """Why the test split stays closed, and how to open it all the same."""
    opened = results.test_opened
    assert opened is not None
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(opened["time"]))
    return (
        f"The test split was opened for {opened['trial_id']} on {when}, and stays closed: a second"
        " look would make its score a choice. To look all the same, which is recorded: cifar-tune"
        f" confirm {shlex.quote(str(results.folder))} --open-test-again"
    )


def score_winner(
    recorder: Recorder, dataset: Dataset, checkpoint: Path, say: Say, *, again: bool = False
) -> None:
    """Without finals: score `best/` alone on the test split, as one model of one seed.

    Raises:
        ResultsError, StorageError, DataError: as `score_models`.
    """
    results = recorder.results
    winner = results.best()
    assert winner is not None, "best/ exists, so there is a winner"
    subject = {
        "trial_id": winner.trial_id,
        "epoch": best_epoch(winner, results.plan.search),
        "number": 0,
    }
    opened = results.test_opened
    if opened is not None and not again:
        if any(opened[key] != subject[key] for key in subject):
            say(closed(results))
            return
        if results.test_scored is not None:
            return
    model = {
        "file": str(checkpoint.relative_to(recorder.journal.folder)),
        "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "seed": winner.seed,
    }
    score_models(recorder, dataset, subject, [model], again=again)


def drop_checkpoints(trainings: Results) -> None:
    """Delete what is not needed once a stage of the finals is recorded."""
    shutil.rmtree(trainings.folder / "ray", ignore_errors=True)
