"""Writes `best/`: the winner's weights, config, figures and validation predictions."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from cifar_tune.config import dump_yaml
from cifar_tune.data import Images, SearchData
from cifar_tune.evaluate import accuracy, predict_logits
from cifar_tune.results import Results, Trial, best_epoch, write_atomically

FOLDER = "best"
MODEL = "model.ckpt"
PREDICTIONS = "validation_predictions.npz"


def write_best(results: Results, data: SearchData) -> Path | None:
    """Copy the winner's checkpoint into `best/` and write what belongs to it.

    Returns:
        The checkpoint's path, or none where the winner has no checkpoint: an objective that is
        not a training leaves none.
    """
    winner = results.best()
    if winner is None:
        return None
    folder = results.folder / FOLDER
    epoch = best_epoch(winner, results.plan.search)
    if epoch in winner.checkpoints:
        folder.mkdir(exist_ok=True)
        content = (results.folder / winner.checkpoints[epoch]).read_bytes()
        write_atomically(folder / MODEL, content)
    elif not _is_there(folder, winner, epoch):
        return None
    validation = Images(data.val_images, data.val_labels)
    logits = predict_logits(folder / MODEL, validation, gpu=results.plan.on_gpu)
    _write_figures(results, winner, epoch, accuracy(logits, validation))
    predictions = io.BytesIO()
    np.savez_compressed(predictions, logits=logits.numpy(), labels=data.val_labels)
    write_atomically(folder / PREDICTIONS, predictions.getvalue())
    return folder / MODEL


def _write_figures(results: Results, winner: Trial, epoch: int, recomputed: float) -> None:
    folder = results.folder / FOLDER
    run = results.plan.run(winner.values_at(epoch), winner.index)
    write_atomically(folder / "config.yaml", dump_yaml(run))
    figures = {
        "trial_id": winner.trial_id,
        "epoch": epoch,
        **{key: value for key, value in winner.results[epoch].items() if not key.endswith("_at")},
        "val_accuracy_recomputed": recomputed,
        "dataset_fingerprint": results.data.get("fingerprint"),
    }
    write_atomically(folder / "metrics.json", json.dumps(figures, indent=2) + "\n")


def _is_there(folder: Path, winner: Trial, epoch: int) -> bool:
    """Whether an earlier start left this very checkpoint, whose original was deleted since."""
    try:
        figures = json.loads((folder / "metrics.json").read_text())
    except (OSError, ValueError):
        return False
    same = figures.get("trial_id") == winner.trial_id and figures.get("epoch") == epoch
    return same and (folder / MODEL).is_file()
