"""Writes `best/`: the winner's model in all its forms, config, figures, validation predictions."""

from __future__ import annotations

import io
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cifar_tune.files import BEST as FOLDER
from cifar_tune.files import CARD, MODEL, PREDICTIONS, at_hand, locate, write_atomically
from cifar_tune.plan.section import dump_yaml
from cifar_tune.record.ranking import best_epoch
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial
from cifar_tune.vision.data import Images, SearchData
from cifar_tune.vision.evaluate import accuracy, predict_logits
from cifar_tune.vision.export import load_checkpoint, write_portable

FIGURES = "metrics.json"

log = logging.getLogger(__name__)


def write_best(
    results: Results, data: SearchData, on_note: Callable[[str], None] = log.warning
) -> Path | None:
    """Fill `best/` with the winner's checkpoint and what belongs to it.

    The folder is replaced as a whole, so it never holds files of two winners.

    Args:
        results: of the search.
        data: its images.
        on_note: is told what could not be written, a sentence each.

    Returns:
        The checkpoint's path, or none where the winner has no checkpoint: an objective that is
        not a training leaves none.

    Raises:
        ResultsError: the winner's checkpoint is damaged; `best/` is as before.
        OSError: the storage is full or gone; the same.
    """
    winner = results.best()
    if winner is None:
        return None
    folder = results.folder / FOLDER
    epoch = best_epoch(winner, results.plan.search)
    _finish_swap(folder)
    location = str(folder / MODEL)
    if epoch in winner.checkpoints:
        location = locate(results.folder, winner.checkpoints[epoch])
    elif not _is_there(folder, winner, epoch):
        return None
    elif (folder / CARD).is_file():
        return folder / MODEL  # an earlier start left all of it
    with at_hand(location) as source, _replacing(folder) as draft:
        load_checkpoint(source, own_code=True)  # one that is damaged is told by its own name
        shutil.copyfile(source, draft / MODEL)
        _write_predictions(results, data, draft, winner, epoch)
        for note in write_portable(draft, fingerprint=results.data.get("fingerprint")):
            on_note(f"{folder}: {note}")
    return folder / MODEL


def _write_predictions(
    results: Results, data: SearchData, draft: Path, winner: Trial, epoch: int
) -> None:
    validation = Images(data.val_images, data.val_labels)
    logits = predict_logits(draft / MODEL, validation, gpu=results.plan.on_gpu)
    _write_figures(results, draft, winner, epoch, accuracy(logits, validation))
    predictions = io.BytesIO()
    np.savez_compressed(predictions, logits=logits.numpy(), labels=data.val_labels)
    write_atomically(draft / PREDICTIONS, predictions.getvalue())


def _write_figures(
    results: Results, draft: Path, winner: Trial, epoch: int, recomputed: float
) -> None:
    run = results.plan.run(winner.values_at(epoch), winner.index)
    write_atomically(draft / "config.yaml", dump_yaml(run))
    figures = {
        "trial_id": winner.trial_id,
        "epoch": epoch,
        **{key: value for key, value in winner.results[epoch].items() if not key.endswith("_at")},
        "val_accuracy_recomputed": recomputed,
        "dataset_fingerprint": results.data.get("fingerprint"),
    }
    write_atomically(draft / FIGURES, json.dumps(figures, indent=2) + "\n")


def _is_there(folder: Path, winner: Trial, epoch: int) -> bool:
    """Whether an earlier start left this very checkpoint, whose original was deleted since."""
    try:
        figures = json.loads((folder / FIGURES).read_text())
    except (OSError, ValueError):
        return False
    same = figures.get("trial_id") == winner.trial_id and figures.get("epoch") == epoch
    return same and (folder / MODEL).is_file()


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """An empty folder, which takes the place of `folder` once it is filled without an error.

    POSIX can't replace a folder that is not empty in one step: `folder` is put aside first, and a
    crash between the two steps leaves it aside, whole, for `_finish_swap`.
    """
    draft, aside = _draft(folder), _aside(folder)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
        if folder.exists():
            folder.rename(aside)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(aside, ignore_errors=True)


def _finish_swap(folder: Path) -> None:
    """Mend what a crash left: the folder that was put aside comes back, or is not needed."""
    aside = _aside(folder)
    if aside.exists() and not folder.exists():
        aside.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)


def _draft(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.draft")


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.aside")
