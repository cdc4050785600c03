"""An exchange in a population, on the disk: the losers get the winners' checkpoints and values."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from cifar_tune.layout import MODEL
from cifar_tune.results import Recorder
from cifar_tune.search.population import Clone, clones
from cifar_tune.search.trainable import is_whole

log = logging.getLogger(__name__)


def hold_exchange(recorder: Recorder, epoch: int) -> None:
    """Give the losers their new weights and values; one event records them all."""
    trials = recorder.results.trials
    given: list[dict[str, object]] = []
    outdated = []
    for clone in clones(recorder.results, epoch):
        checkpoint = _hand_over(recorder, clone, epoch)
        if checkpoint is None:
            log.warning(
                "%s keeps its weights after epoch %d: %s has no whole checkpoint to give",
                clone.trial_id, epoch, clone.source,
            )  # fmt: skip
            continue
        given.append(
            {
                "trial_id": clone.trial_id,
                "source": clone.source,
                "values": clone.values,
                "checkpoint": checkpoint,
            }
        )
        outdated.append(trials[clone.trial_id].inherited)
    recorder.write("exchanged", epoch=epoch, clones=given)
    for inherited in outdated:
        if inherited is not None:
            shutil.rmtree((recorder.journal.folder / inherited[1]).parent, ignore_errors=True)


def _hand_over(recorder: Recorder, clone: Clone, epoch: int) -> str | None:
    """Copy the source's checkpoint; its path from the results folder, or none if there is none.

    A copy, because each trial deletes its own files when it needs them no more.
    """
    folder = recorder.journal.folder
    path = recorder.results.trials[clone.source].checkpoints.get(epoch)
    if path is None or not is_whole(folder / path):
        return None
    start = Path("ray", str(recorder.results.starts[-1].number))
    target = start / f"{clone.trial_id}-from-{clone.source}" / f"epoch-{epoch}" / MODEL
    (folder / target).parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(folder / path, folder / target)
    except OSError:  # a file system without hard links
        shutil.copyfile(folder / path, folder / target)
    return str(target)
