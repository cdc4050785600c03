"""What comes after a search: the test split is opened once, and the winner is scored on it."""

from __future__ import annotations

from pathlib import Path

from cifar_tune.data import Dataset
from cifar_tune.data.held_out import open_test_split
from cifar_tune.evaluate import accuracy, predict_logits
from cifar_tune.results import Recorder, best_epoch


def score_test_split(recorder: Recorder, dataset: Dataset, checkpoint: Path) -> float | None:
    """Score the winner on the test split, unless the journal says that it was opened before.

    An opening that was recorded and not finished is finished: it is the same opening.

    Returns:
        The accuracy, or none where an earlier opening scored another winner.

    Raises:
        StorageError, DataError: as the journal and the data room.
    """
    results = recorder.results
    winner = results.best()
    assert winner is not None, "best/ exists, so there is a winner"
    subject = {"trial_id": winner.trial_id, "epoch": best_epoch(winner, results.plan.search)}
    opened, scored = results.test_opened, results.test_scored
    if opened is not None and any(opened[key] != subject[key] for key in subject):
        return None
    if scored is not None:
        return float(scored["test_accuracy"][0])
    if opened is None:
        recorder.write("test_opened", **subject, fingerprint=dataset.fingerprint)
    test = open_test_split(dataset)
    score = accuracy(predict_logits(checkpoint, test, gpu=results.plan.on_gpu), test)
    recorder.write("test_scored", **subject, seeds=[winner.seed], test_accuracy=[score])
    return score
