"""The driver's side of a trial: every report into the journal before Ray acknowledges it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ray import tune

from cifar_tune.errors import StorageError
from cifar_tune.results import ENDED, Recorder, Trial, best_epoch
from cifar_tune.search.trainable import CHECKPOINT_NAME, CLOCK, REPORTED


class JournalCallback(tune.Callback):
    """Writes what happens to trials; keeps the checkpoints that are needed and deletes the rest.

    Ray calls `on_trial_result` before the trial's `report` returns, when the scheduler has decided
    (`result["done"]`) and the checkpoint lies in the storage already.
    """

    def __init__(self, recorder: Recorder, start: int) -> None:
        self._recorder = recorder
        self._start = start
        self.failure: StorageError | None = None

    def _write(self, event: str, **values: Any) -> None:
        try:
            self._recorder.write(event, **values)
        except StorageError as error:
            self.failure = error  # Ray wraps what is raised here; run_search raises this one
            raise

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:
        """A trial has its process."""
        name = trial.config["trial_id"]
        self._write("trial_started", trial_id=name, start=self._start)

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:
        """One report, with the decision on it."""
        name = trial.config["trial_id"]
        self._write(
            "result",
            trial_id=name,
            metrics={key: result[key] for key in (*REPORTED, *CLOCK) if key in result},
            checkpoint=self._checkpoint_of(trial, result),
            done=bool(result.get("done", False)),
            diverged=bool(result["diverged"]),
        )
        self._drop_checkpoints(self._recorder.results.trials[name])

    def _checkpoint_of(self, trial: Any, result: dict[str, Any]) -> str | None:
        folder = result.get("checkpoint_dir_name")
        if folder is None:
            return None
        path = Path(trial.storage.trial_fs_path, folder, CHECKPOINT_NAME)
        return str(path.relative_to(self._recorder.journal.folder))

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
        """The scheduler ended a trial, or it ended by itself."""
        record = self._recorder.results.trials[trial.config["trial_id"]]
        status, reason = self._judge(record)
        self._write("trial_ended", trial_id=record.trial_id, status=status, reason=reason)
        self._drop_checkpoints(record)

    def _judge(self, record: Trial) -> tuple[str, str]:
        if record.status in ENDED:  # the last result decided it
            return record.status, "" if record.status == "completed" else _reason(record)
        if not record.results:
            return "failed", "it ended without a report"
        return "stopped", f"it ended by itself after epoch {record.epochs}"

    def on_trial_recover(self, *, trial: Any, **_: Any) -> None:
        """A trial crashed, and Ray will try it again."""
        name = trial.config["trial_id"]
        self._write("trial_retried", trial_id=name, **_failure(trial))

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:
        """A trial crashed for good."""
        record = self._recorder.results.trials[trial.config["trial_id"]]
        failure = _failure(trial)
        self._write("trial_ended", trial_id=record.trial_id, status="failed", **failure)
        self._drop_checkpoints(record)

    def _drop_checkpoints(self, record: Trial) -> None:
        drop_checkpoints(self._recorder, record, final=False)


def _reason(record: Trial) -> str:
    if record.status == "diverged":
        return f"loss was not finite in epoch {record.epochs}"
    return f"early stopping at epoch {record.epochs}"


def _failure(trial: Any) -> dict[str, str]:
    """Kind and message of the error in a line, and the end of its traceback."""
    # Ray's own copy in the storage comes later; this file lies in its session's folder.
    path = Path(trial.error_file or "")
    text = path.read_text(errors="replace") if path.is_file() else "the trial's process died"
    text = text.rpartition("Failure # ")[2]  # the newest of several
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return {"reason": lines[-1][:500], "traceback": text[-4000:]}


def drop_checkpoints(recorder: Recorder, record: Trial, *, final: bool) -> None:
    """Delete the checkpoints of a trial that nothing needs any more.

    A trial that may go on needs its newest, the one before it, and its best. A completed one keeps
    its newest, so that it can be trained longer. One that ended otherwise is only needed as long
    as it leads. `final`: the winner's weights lie in `best/` already.
    """
    needed = _needed_epochs(recorder, record, final=final)
    dropped = {epoch: path for epoch, path in record.checkpoints.items() if epoch not in needed}
    if not dropped:
        return
    # First the line, then the files: the journal never names a checkpoint that is gone.
    recorder.write("checkpoints_dropped", trial_id=record.trial_id, epochs=list(dropped))
    for path in dropped.values():
        shutil.rmtree((recorder.journal.folder / path).parent, ignore_errors=True)


def _needed_epochs(recorder: Recorder, record: Trial, *, final: bool) -> set[int]:
    results = recorder.results
    epochs = sorted(record.checkpoints)
    if record.status not in ENDED:
        return {*epochs[-2:], best_epoch(record, results.plan.search)} if epochs else set()
    needed = set(epochs[-1:]) if record.status == "completed" else set()
    if not final and record.usable and results.best_ended() is record:
        needed.add(best_epoch(record, results.plan.search))
    return needed
