"""The one opening of the test split, in a recorded event, and the scores that it gives."""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cifar_tune.errors import ResultsError
from cifar_tune.finals.uncertainty import MIN_SEEDS, Figures, interval_of_mean, standard_deviation
from cifar_tune.plan.machine import read_machine
from cifar_tune.record.results import Recorder, Results, Say, best_epoch
from cifar_tune.vision.data import Dataset, Images
from cifar_tune.vision.data.held_out import open_test_split

Subject = dict[str, Any]
"""Whose models are scored: `number` of the finals (0: none, the winner alone), and for that winner
`trial_id` and `epoch`, which finals settle on their way."""


def correct_on(
    checkpoint: Path, images: Images, *, gpu: bool, flip_averaging: bool = False
) -> Figures:
    """Which images a model gets right: [images]; on all CPUs, since no trial runs meanwhile."""
    from cifar_tune.vision.evaluate import predict_logits  # torch costs seconds

    logits = predict_logits(
        checkpoint,
        images,
        gpu=gpu,
        flip_averaging=flip_averaging,
        threads=read_machine().cpus,
    )
    correct: Figures = logits.argmax(dim=1).numpy() == images.labels
    return correct


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
    recorder: Recorder,
    dataset: Dataset,
    subject: Subject,
    models: Sequence[dict[str, Any]],
    *,
    lost: Mapping[str, int],
    again: bool = False,
) -> None:
    """Open the test split, or finish its opening, and score all models on it.

    Args:
        recorder: of the search.
        dataset: its test split is opened.
        subject: `number`, `trial_id` and `epoch`.
        models: `file` in the results folder, `sha256`, `seed`; at least one.
        lost: trainings that gave no model, by what became of them.
        again: whether another look was asked for.

    Raises:
        ResultsError: a model is not the one whose hash is given, or the split stays closed.
        StorageError, DataError: as the journal and the data room.
    """
    results, folder = recorder.results, recorder.journal.folder
    _check_models(folder, models)
    look = look_at(results, subject, again=again)
    if look == "open":
        recorder.write(
            "test_opened",
            **subject,
            fingerprint=dataset.fingerprint,
            models=list(models),
            lost=dict(lost),
            flip_averaging=results.plan.finals.flip_averaging,
            again=results.test_opened is not None,
        )
    opened = results.test_opened
    if look in ("done", "closed") or opened is None or opened.get("models") != list(models):
        raise ResultsError(closed(results))
    flip = opened["flip_averaging"]
    test = open_test_split(dataset)
    correct = [
        correct_on(folder / model["file"], test, gpu=results.plan.on_gpu, flip_averaging=flip)
        for model in models
    ]
    _record(recorder, subject, opened, np.stack(correct))


def _record(recorder: Recorder, subject: Subject, opened: dict[str, Any], correct: Figures) -> None:
    scores = [float(right.mean()) for right in correct]
    interval = interval_of_mean(correct)
    recorder.write(
        "test_scored",
        **subject,
        seeds=[model["seed"] for model in opened["models"]],
        test_accuracy=scores,
        mean=float(np.mean(scores)),
        std=standard_deviation(scores) if len(scores) >= MIN_SEEDS else None,
        ci95=None if interval is None else list(interval),
        test_examples=correct.shape[1],
        flip_averaging=opened["flip_averaging"],
        lost=opened["lost"],
    )


def _check_models(folder: Path, models: Sequence[dict[str, Any]]) -> None:
    for model in models:
        path = folder / model["file"]
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != model["sha256"]:
            raise ResultsError(
                f"{path} is gone or not the model that the finals trained; put it back, or hold"
                f" other finals, which is recorded: cifar-tune confirm {shlex.quote(str(folder))}"
                " --open-test-again --final-seeds N with another N"
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
    epoch = best_epoch(winner, results.plan.search)
    subject = {"number": 0, "trial_id": winner.trial_id, "epoch": epoch}
    look = look_at(results, subject, again=again)
    if look == "closed":
        say(closed(results))
    if look in ("closed", "done"):
        return
    model = {
        "file": str(checkpoint.relative_to(recorder.journal.folder)),
        "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "seed": winner.seed,
    }
    score_models(recorder, dataset, subject, [model], lost={}, again=again)
