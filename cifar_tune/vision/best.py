"""Writes `best/` and `search-winner/`: a model in all its forms, with all that belongs to it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_tune.errors import ResultsError
from cifar_tune.files import (
    BEST,
    CONFIRMED,
    MODEL,
    PREDICTIONS,
    WINNER,
    at_hand,
    is_whole,
    locate,
    write_atomically,
)
from cifar_tune.plan.section import dump_yaml
from cifar_tune.plan.task import Say
from cifar_tune.record import model_folder
from cifar_tune.record.model_folder import (
    figures_of,
    figures_of_winner,
    folder_of_winner,
    holds_winner,
    is_copy,
    replacing,
    write_figures,
)
from cifar_tune.record.ranking import best_epoch
from cifar_tune.record.results import Results
from cifar_tune.record.tables import model_in_words
from cifar_tune.record.trials import Trial
from cifar_tune.vision.data import Images, SearchData
from cifar_tune.vision.data.dataset import in_memory
from cifar_tune.vision.data.held_out import open_confirm_split
from cifar_tune.vision.export import has_all_forms, write_portable
from cifar_tune.vision.model_card import FILE_NAME as README
from cifar_tune.vision.model_card import model_card
from cifar_tune.vision.opened import VisionData
from cifar_tune.vision.portable import load_checkpoint

CONFIG = "config.yaml"


def write_winner(
    results: Results, data: SearchData, on_note: Say, *, whole: bool = True
) -> Path | None:
    """Fill `best/` with the winner of a search, or `search-winner/` once a final model is there.

    The folder is replaced as a whole, so it never holds files of two winners; what an earlier
    start left there is not written again. `on_note` is told what could not be written, a sentence
    each. If it is not `whole`, there are no programs of torch.export and ONNX.

    Returns:
        The checkpoint's path, or none where the winner has no checkpoint: an objective that is
        not a training leaves none.

    Raises:
        ResultsError: the winner's checkpoint is damaged; the folder is as before.
        OSError: the storage is full or gone; the same.
    """
    winner = results.best()
    if winner is None:
        return None
    folder, epoch = folder_of_winner(results), best_epoch(winner, results.plan.search)
    location, there = str(folder / MODEL), holds_winner(folder, winner, epoch)
    if epoch in winner.checkpoints:
        location = locate(results.folder, winner.checkpoints[epoch])
    elif not there:
        return None
    with at_hand(location) as source:
        if there and is_copy(folder, source) and _is_whole(folder, programs=whole):
            card = model_card(results, folder, figures_of(folder))  # of more trials than before
            write_atomically(folder / README, card)
            return folder / MODEL
        load_checkpoint(source, own_code=True)  # one that is damaged is told by its own name
        with replacing(folder) as draft:
            shutil.copyfile(source, draft / MODEL)
            _fill(
                results, data, draft, epoch, lambda note: on_note(f"{folder}: {note}"), whole=whole
            )
    return folder / MODEL


def _is_whole(folder: Path, *, programs: bool) -> bool:
    """Whether a winner's folder has all that can be read of it, but for the card."""
    belong = all((folder / name).is_file() for name in (CONFIG, PREDICTIONS))
    return belong and is_whole(str(folder / MODEL)) and has_all_forms(folder, programs=programs)


def _fill(
    results: Results, data: SearchData, draft: Path, epoch: int, on_note: Say, *, whole: bool
) -> None:
    """Write what belongs to the winner's checkpoint."""
    winner = results.best()
    assert winner is not None
    recomputed = _predict_validation(results, data, draft, winner)
    run = results.plan.run(winner.values_at(epoch), winner.index)
    write_atomically(draft / CONFIG, dump_yaml(run))
    figures = {
        **figures_of_winner(winner, epoch),
        "val_accuracy_recomputed": recomputed,
        "dataset_fingerprint": results.data.get("fingerprint"),
    }
    _finish(results, draft, figures, on_note, programs=whole)


def _predict_validation(results: Results, data: SearchData, draft: Path, winner: Trial) -> float:
    """Write the winner's predictions; their accuracy, with the arithmetic of its validation."""
    from cifar_tune.vision.evaluate import accuracy, predict_logits

    validation = Images(in_memory(data.val_images), data.val_labels)
    logits = predict_logits(draft / MODEL, validation, gpu=results.plan.on_gpu)
    of = f"{winner.trial_id} of the search on the validation images"
    _write_predictions(draft / PREDICTIONS, logits.numpy(), data.val_labels, of)
    return accuracy(logits, validation)


def _finish(
    results: Results,
    draft: Path,
    figures: Mapping[str, Any],
    on_note: Say,
    *,
    programs: bool = True,
) -> None:
    """Write what every model folder has: figures, forms of the model, and the model card."""
    write_figures(draft, figures)
    about = {"fingerprint": results.data.get("fingerprint"), "holds": figures["holds"]}
    for note in write_portable(draft, programs=programs, **about):
        on_note(note)
    write_atomically(draft / README, model_card(results, draft, figures))


def hand_over(
    results: Results,
    data: VisionData,
    model: Mapping[str, Any],
    judged: Path | None,
    on_note: Say,
) -> bool:
    """Fill `best/` with a final model in all its forms; else as `model_folder.hand_over`."""
    best, source = results.folder / BEST, results.folder / model["file"]
    figures = _figures_of_final(results, model)

    def fill(draft: Path) -> None:
        _copy_config(results, source, draft)
        _write_confirmed(results, data, draft, figures["trial_id"], judged, on_note)
        _finish(results, draft, figures, lambda note: on_note(f"{best}: {note}"))

    return model_folder.hand_over(results, model, figures, fill, on_note, is_whole=has_all_forms)


def _figures_of_final(results: Results, model: Mapping[str, Any]) -> dict[str, Any]:
    scored = results.test_scored
    assert scored is not None
    seed, members = model["seed"], len(scored["seeds"])
    return {
        "model": model["kind"],
        "holds": model_in_words(model, scored),
        "trial_id": scored["trial_id"],
        "epoch": scored["epoch"],
        **({"members": members} if seed is None else {"seed": seed}),
        "sha256": model["sha256"],
        "test_accuracy": model["score"],
        "test_accuracy_ci95": model["ci95"],
        "flip_averaging": scored.get("flip_averaging", False),
        **({"translate_averaging": True} if scored.get("translate_averaging") else {}),
        "final_models": {
            name: scored.get(name) for name in ("seeds", "test_accuracy", "mean", "std", "ci95")
        },
        "test_images": results.data.get("test"),
        "dataset_fingerprint": results.data.get("fingerprint"),
    }


def _copy_config(results: Results, source: Path, draft: Path) -> None:
    """Of a mean of several, the configuration of the first."""
    models = (results.test_opened or {}).get("models", ())
    for home in (source.parent, *((results.folder / one["file"]).parent for one in models)):
        if (home / CONFIG).is_file():
            shutil.copyfile(home / CONFIG, draft / CONFIG)
            return


def _write_predictions(
    path: Path, logits: NDArray[np.float32], labels: NDArray[np.int64], of: str
) -> None:
    """Write logits, [n, classes], with the labels, [n], and whose they are on which images.

    It is an `.npz` file, which numpy reads without pickles.
    """
    content = io.BytesIO()
    np.savez_compressed(content, logits=logits, labels=labels, of=np.array(of))
    write_atomically(path, content.getvalue())


def _write_confirmed(
    results: Results,
    data: VisionData,
    draft: Path,
    trial_id: str,
    judged: Path | None,
    on_note: Say,
) -> None:
    """Predictions of the chosen configuration on images that its training did not see.

    A final model has seen all but the test images, which the page does not show.
    """
    winner = results.folder / WINNER
    if judged is not None:
        images = open_confirm_split(data.dataset, data.config)
        try:
            logits = load_checkpoint(judged, own_code=True).logits(images.images)
        except ResultsError as error:
            on_note(f"there are no confirmation predictions: {error}")
            return
        of = f"a confirmation training of {trial_id}'s configuration on the confirmation images"
        _write_predictions(draft / CONFIRMED, logits.numpy(), images.labels, of)
    elif figures_of(winner).get("trial_id") == trial_id and (winner / PREDICTIONS).is_file():
        shutil.copyfile(winner / PREDICTIONS, draft / PREDICTIONS)
