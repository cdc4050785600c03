"""The driver's side of a trial: every report into the journal before Ray acknowledges it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune

from cifar_tune.errors import StorageError
from cifar_tune.files import BEST_SO_FAR, MODEL, inside, locate
from cifar_tune.plan.rungs import pause_epochs
from cifar_tune.record.journal import storage_error
from cifar_tune.record.recorder import PicklesAsNothing, Recorder
from cifar_tune.record.trials import (
    CODE,
    DISK_FULL,
    ENDED,
    HUNG,
    LOST_NODE,
    LOST_PROCESS,
    STORAGE,
    Trial,
    kind_of,
    may_retry,
)
from cifar_tune.search.checkpoints import drop_checkpoints
from cifar_tune.search.cluster import is_gone
from cifar_tune.search.queue import TrialQueue
from cifar_tune.search.ray_head import last_line
from cifar_tune.search.stop import StopRequest
from cifar_tune.search.trainable import BESIDE, METRICS

STORAGE_PAUSE_SECONDS = 1.0  # before a trial tries again to write to a storage that is gone


class JournalCallback(PicklesAsNothing, tune.Callback):
    """Writes what happens to trials; keeps the checkpoints that are needed and deletes the rest.

    Ray calls `on_trial_result` before the trial's `report` returns, when the scheduler has decided
    (`result["done"]`) and the checkpoint lies in the storage already.
    """

    def __init__(
        self,
        recorder: Recorder,
        queue: TrialQueue,
        hung: Mapping[str, str],
        stop: StopRequest,
        start: int,
    ) -> None:
        """Record what happens in start number `start`.

        `hung` is what to say of each trial whose process was killed because it hung, by Ray's id.
        """
        self._recorder = recorder
        self._queue = queue
        self._hung = hung
        self._stop = stop
        self._start = start
        self._search = recorder.results.plan.search
        self._pauses = pause_epochs(recorder.results.plan)
        self._on_cluster = recorder.results.plan.resources.address is not None
        self._shares: dict[Any, Any] = {}  # Ray makes one for each trial; equal ones are one here

    def write(self, event: str, **values: Any) -> None:
        """Record an event; a journal that can't be written ends the search."""
        try:
            self._recorder.write(event, **values)
        except StorageError as error:
            self._stop.fail(error)  # Ray wraps or swallows what is raised here
            raise

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:
        """A trial has its process."""
        share = trial.placement_group_factory
        trial.placement_group_factory = self._shares.setdefault(share, share)
        name = trial.config["trial_id"]
        self.write("trial_started", trial_id=name, start=self._start)

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:
        """One report, with the decision on it."""
        name = trial.config["trial_id"]
        done, diverged = bool(result.get("done", False)), bool(result["diverged"])
        paused = done and not diverged and result["epoch"] in self._pauses
        beside = result.get(BESIDE)
        path = self._checkpoint_of(trial, result, BEST_SO_FAR)
        self.write(
            "result",
            trial_id=name,
            metrics=dict(result[METRICS]),
            checkpoint=self._checkpoint_of(trial, result, MODEL),
            done=done,
            diverged=diverged,
            **({"paused": True} if paused else {}),
            **({"earlier": [{"epoch": beside, "checkpoint": path}]} if beside else {}),
        )
        drop_checkpoints(self._recorder, self._recorder.results.trials[name])

    def _checkpoint_of(self, trial: Any, result: dict[str, Any], name: str) -> str | None:
        folder = result.get("checkpoint_dir_name")
        if folder is None:
            return None
        storage = self._recorder.results.starts[-1].storage
        return inside(storage, trial.storage.trial_dir_name, folder, name)

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
        """The scheduler ended a trial, or it ended by itself."""
        _forget(trial)
        record = self._recorder.results.trials[trial.config["trial_id"]]
        if record.status == "pending":  # it waits at a rung, or for its population
            self._queue.again(record)
            return
        status, reason = self._judge(record)
        more = {"kind": CODE} if status == "failed" else {}
        self._end(record, trial_id=record.trial_id, status=status, reason=reason, **more)

    def _judge(self, record: Trial) -> tuple[str, str]:
        """Status and reason; if a trial has ended already, by its last result."""
        if record.status == "completed":
            return record.status, ""
        if record.status == "diverged":
            return record.status, f"loss was not finite in epoch {record.epochs}"
        if record.status in ENDED:
            return record.status, f"early stopping at epoch {record.epochs}"
        if not record.results:
            return "failed", "it ended without a report"
        return "completed", f"it ended by itself after epoch {record.epochs}"

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:
        """A trial crashed: it is tried again, or failed."""
        try:
            self._record_error(trial)
        finally:
            _forget(trial)

    def _record_error(self, trial: Any) -> None:
        if self._stop.reason is not None:
            return  # what stops the search may well be what ended it, and it goes on later
        record = self._recorder.results.trials[trial.config["trial_id"]]
        if record.status in ENDED:
            return  # it had ended, and Ray failed at what comes after
        kind, reason, traceback = self._failure(trial)
        told = {"trial_id": record.trial_id, "kind": kind, "reason": reason, "traceback": traceback}
        retried = may_retry([*record.failures, kind], self._search)
        if kind in (DISK_FULL, STORAGE) and not retried:
            # The trial stays as it is, and goes on later.
            what = f"a checkpoint can't be written: {reason}"
            self._stop.fail(storage_error(self._recorder.journal.folder, what))
            return
        if kind == STORAGE:
            time.sleep(STORAGE_PAUSE_SECONDS)
        if retried:
            self.write("trial_retried", **told)
            self._queue.again(record)
            return
        self._end(record, status="failed", **told)

    def _end(self, record: Trial, **told: Any) -> None:
        self.write("trial_ended", **told)
        drop_checkpoints(self._recorder, record)
        if record.status == "failed" and self._search.fail_fast:
            self._stop.ask(f"{record.trial_id} failed, and --fail-fast was given")

    def _failure(self, trial: Any) -> tuple[str, str, str]:
        """Kind, the error in a line, and the end of its traceback."""
        if trial.trial_id in self._hung:
            return HUNG, self._hung[trial.trial_id], ""
        # Ray's own copy in the storage comes later; this file lies in its session's folder.
        path = Path(trial.error_file or "")
        text = path.read_text(errors="replace") if path.is_file() else "RayActorError: it is gone"
        text = text.rpartition("Failure # ")[2]  # the newest of several
        kind, line, results = kind_of(text), last_line(text)[:500], self._recorder.results
        if kind == CODE and locate(results.folder, results.starts[-1].storage) in line:
            kind = STORAGE  # such as a permission that was taken away
        if kind == LOST_PROCESS and self._on_cluster and is_gone(trial.last_result.get("node_ip")):
            kind = LOST_NODE  # Ray itself knows it only after 15 s
        return kind, line, text[-4000:]


def _forget(trial: Any) -> None:
    """Drop what Ray would keep until the search ends: 33 kB of statistics, 11 kB of reports."""
    metadata = trial.run_metadata
    metadata.metric_analysis, metadata.metric_n_steps = {}, {}
    # Ray looks at it once more, and prints a line of its own where it is empty.
    metadata.last_result = {k: v for k, v in metadata.last_result.items() if k == "epoch"}
    trial._default_result_or_future = None  # an object of Ray's, never asked for
    checkpoints = metadata.checkpoint_manager  # has the report that came with each
    metadata.checkpoint_manager = type(checkpoints)(checkpoints.checkpoint_config)
