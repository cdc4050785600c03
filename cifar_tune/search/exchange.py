"""An exchange in a population, on the disk: the losers get the winners' checkpoints and values."""

from __future__ import annotations

import logging

from cifar_tune.files import MODEL, copy, delete_folder, inside, is_whole, locate, parent
from cifar_tune.record.results import Recorder
from cifar_tune.search.population import Clone, clones

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
            delete_folder(parent(locate(recorder.journal.folder, inherited[1])))


def _hand_over(recorder: Recorder, clone: Clone, epoch: int) -> str | None:
    """Copy the source's checkpoint; its place as the journal names it, or none if there is none.

    A copy, because each trial deletes its own files when it needs them no more.
    """
    folder = recorder.journal.folder
    path = recorder.results.trials[clone.source].checkpoints.get(epoch)
    if path is None or not is_whole(locate(folder, path)):
        return None
    storage, own = recorder.results.starts[-1].storage, f"{clone.trial_id}-from-{clone.source}"
    target = inside(storage, own, f"epoch-{epoch}", MODEL)
    copy(locate(folder, path), locate(folder, target))
    return target
