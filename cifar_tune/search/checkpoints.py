"""A trial's checkpoints on the disk: which it can go on from, and which nobody needs any more."""

from __future__ import annotations

from pathlib import Path

from cifar_tune.files import (
    RAY,
    delete_folder,
    is_of_finals,
    is_whole,
    keep_only,
    locate,
    name_of,
    parent,
)
from cifar_tune.plan.task import task_of
from cifar_tune.record.ranking import best_epoch
from cifar_tune.record.recorder import Recorder
from cifar_tune.record.results import Results
from cifar_tune.record.trials import ENDED, Trial


def damaged(folder: Path, trial: Trial) -> list[int]:
    """The epochs of a trial's own checkpoints that are damaged or gone."""
    named = trial.checkpoints.items()
    return [epoch for epoch, path in named if not is_whole(locate(folder, path))]


def to_go_on_from(recorder: Recorder, trial: Trial) -> list[str]:
    """Paths or URIs of the whole checkpoints that a trial can go on from, the newest first.

    Those that are damaged or gone are given up, and the journal says so.
    """
    folder, name = recorder.journal.folder, trial.trial_id
    lost = damaged(folder, trial)
    if lost:
        recorder.write("checkpoints_lost", trial_id=name, epochs=lost)
    began, inherited = trial.inherited or (0, "")
    own = sorted((epoch for epoch in trial.checkpoints if epoch > began), reverse=True)
    locations = [locate(folder, trial.checkpoints[epoch]) for epoch in own]
    if trial.inherited and is_whole(locate(folder, inherited)):
        locations.append(locate(folder, inherited))
    elif trial.inherited and not own:
        newest = max(trial.checkpoints, default=0)
        recorder.write(
            "checkpoints_lost", trial_id=name, epochs=[], inherited=True, from_epoch=newest
        )
        return to_go_on_from(recorder, trial)
    return locations


def drop_checkpoints(recorder: Recorder, record: Trial) -> None:
    """Delete the checkpoints of a trial that nothing needs any more.

    A trial that may go on needs its newest, the one before it, and its best; one that waits for
    others, of which there may be many, its newest and one more. A completed one keeps its newest,
    so that it can be trained longer, and a failed one, so that it can be tried again. One that
    ended otherwise is only needed as long as it leads.
    """
    needed = _needed_epochs(recorder, record)
    dropped = {epoch: path for epoch, path in record.checkpoints.items() if epoch not in needed}
    if not dropped:
        return
    # First the line, then the files: the journal never names a checkpoint that is gone.
    recorder.write("checkpoints_dropped", trial_id=record.trial_id, epochs=list(dropped))
    kept = {parent(path) for path in record.checkpoints.values()}  # two may share a folder
    for folder in {parent(path) for path in dropped.values()} - kept:
        delete_folder(locate(recorder.journal.folder, folder))


def _needed_epochs(recorder: Recorder, record: Trial) -> set[int]:
    results = recorder.results
    epochs = sorted(record.checkpoints)
    if record.status not in ENDED:
        best = best_epoch(record, results.plan.search) if epochs else 0
        before = [] if record.paused and best != record.epochs else epochs[-2:-1]
        return {*epochs[-1:], *before, best}
    needed = set(epochs[-1:]) if record.status in ("completed", "failed") else set()
    # A stage of the finals keeps the models of all its trainings until they are scored.
    of_finals = is_of_finals(results.folder) and task_of(results.plan).keeps_best
    if record.usable and (of_finals or results.best_ended() is record):
        needed.add(best_epoch(record, results.plan.search))
    return needed


def tidy(recorder: Recorder) -> None:
    """Delete what is not needed once `best/` is written: losers' checkpoints, Ray's own files."""
    for trial in list(recorder.results.trials.values()):
        drop_checkpoints(recorder, trial)
    folder, trials = recorder.journal.folder, recorder.results.trials.values()
    paths = [path for trial in trials for path in trial.checkpoints.values()]
    # A member of a population that failed would go on from there if it is tried again.
    paths += [one.inherited[1] for one in trials if one.inherited and one.status == "failed"]
    kept = {parent(parent(locate(folder, path))) for path in paths}
    for start in recorder.results.starts:
        storage = locate(folder, start.storage)
        keep_only(storage, {name_of(one) for one in kept if parent(one) == storage})


def drop_all(results: Results) -> None:
    """Delete the checkpoints of all trials, and what else Ray wrote."""
    for start in results.starts:
        storage = locate(results.folder, start.storage)
        own = parent(storage)  # outside the results folder each start has one of its own
        delete_folder(own if name_of(own) != RAY else storage)
    delete_folder(str(results.folder / RAY))
