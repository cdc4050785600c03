"""TensorBoard files, written by the driver from journal events."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cifar_tune.journal import Event

log = logging.getLogger(__name__)


class TensorBoardFiles:
    """Writes `tensorboard/<trial>/` from journal events; a disk fault ends it with one warning.

    The driver writes them, since a worker on another node can't write the driver's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, Any] = {}
        self._broken = False

    def __call__(self, event: Event, results: Any) -> None:
        """Observe one event of the journal (`results` is the search's `Results`)."""
        if self._broken or event["event"] not in ("result", "trial_ended"):
            return
        trial = results.trials[event["trial_id"]]
        try:
            if event["event"] == "result":
                self._write_scalars(trial.trial_id, event["metrics"])
            else:
                self._write_hyperparameters(trial)
        except OSError as error:
            self._broken = True
            log.warning("TensorBoard files can't be written any more: %s", error)

    def close(self) -> None:
        """Close the files of trials that did not end."""
        for writer in self._writers.values():
            with contextlib.suppress(OSError):  # a full disk; the journal has the figures
                writer.close()
        self._writers.clear()

    def _writer(self, trial_id: str) -> Any:
        from tensorboardX import SummaryWriter

        if trial_id not in self._writers:
            folder = str(self._folder / trial_id)
            self._writers[trial_id] = SummaryWriter(folder, flush_secs=10, write_to_disk=True)
        return self._writers[trial_id]

    def _write_scalars(self, trial_id: str, metrics: Mapping[str, float]) -> None:
        writer = self._writer(trial_id)
        for name, value in metrics.items():
            if not name.endswith("_at"):
                writer.add_scalar(name, value, global_step=int(metrics["epoch"]))

    def _write_hyperparameters(self, trial: Any) -> None:
        """The trial's row on the HPARAMS page, with its last metrics."""
        from tensorboardX.summary import hparams

        if not trial.results:
            return
        last = trial.results[trial.epochs]
        metrics = {f"final/{name}": last[name] for name in ("val_accuracy", "val_loss")}
        values = {key: str(v) if v is None else v for key, v in trial.values.items()}
        writer = self._writer(trial.trial_id)
        for summary in hparams(values, metrics):
            writer.file_writer.add_summary(summary)
        for name, value in metrics.items():
            writer.add_scalar(name, value, global_step=trial.epochs)
        self._writers.pop(trial.trial_id).close()
