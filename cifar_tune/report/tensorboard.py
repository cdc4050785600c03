"""TensorBoard files, written by the driver from journal events."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from cifar_tune.files import is_of_finals, write_atomically
from cifar_tune.plan.task import columns_of
from cifar_tune.record.journal import Event
from cifar_tune.record.results import Results
from cifar_tune.record.trials import STATUSES
from cifar_tune.report.event_files import FAILURE, RUNNING, SUCCESS, EventFiles, in_column

log = logging.getLogger(__name__)

# What ends the names of the files for the HPARAMS page.
ROW, COLUMNS = "row", "columns"
MARKS = {"completed": SUCCESS, "stopped": SUCCESS, "diverged": FAILURE, "failed": FAILURE}


class TensorBoardFiles:
    """Writes `<folder>/<trial>/` from journal events; a disk fault ends it with one warning.

    The driver writes them, since a worker on another node can't write the driver's folder. Each
    start of a search adds a file of scalars to a trial. The HPARAMS page has a row for each trial,
    with the last scalars as its metrics. A row has a file of its own, which is replaced, because
    TensorBoard believes the first row of a trial that it finds; and so have the columns. A search's
    finals (`<search>/finals/<kind>-1`) add rows and no columns to those of the search.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = EventFiles()
        self._name = _file_name("scalars")
        self._newest: dict[str, int] = {}
        self._without_row: dict[str, Results] = {}
        self._broken = False

    def __call__(self, event: Event, results: Results) -> None:
        """Observe one event of the journal."""
        if event["event"] == "start" and not is_of_finals(results.folder):
            self._safely(self._write_columns, results)
        elif event["event"] == "result":
            self._safely(self._write_scalars, event, results)
        elif event["event"] == "trial_ended":
            self._safely(self._write_row, event["trial_id"], results)

    def close(self) -> None:
        """Write the rows of trials that did not end."""
        for name, results in list(self._without_row.items()):
            self._safely(self._write_row, name, results)

    def _safely(self, write: Callable[..., None], *args: object) -> None:
        if self._broken:
            return
        try:
            write(*args)
        except OSError as error:
            self._broken = True
            log.warning("TensorBoard files can't be written any more: %s", error)

    def _write_scalars(self, event: Event, results: Results) -> None:
        name, metrics, seconds = event["trial_id"], event["metrics"], event["time"]
        epoch = int(metrics["epoch"])
        shown = {key: value for key, value in metrics.items() if not key.endswith("_at")}
        events = [self._files.scalars(shown, epoch, seconds)]
        # It was reported before a crash, or may have been.
        if epoch <= self._newest.get(name, epoch):
            events.insert(0, self._files.restart(epoch, seconds))
        self._files.append(self._folder / name / self._name, *events)
        self._newest[name] = epoch
        self._without_row[name] = results

    def _write_columns(self, results: Results) -> None:
        space, columns = results.plan.search.parsed_space, columns_of(results.plan)
        metrics = (*columns, f"best_{columns[0]}", "epoch")
        self._replace(self._folder, COLUMNS, self._files.experiment(space, STATUSES, metrics))

    def _write_row(self, name: str, results: Results) -> None:
        """The trial's hyperparameters and status."""
        self._without_row.pop(name, None)
        trial = results.trials[name]
        values = trial.values_at(trial.epochs)
        cells = {
            field.field: in_column(field, values[field.field])
            for field in results.plan.search.parsed_space
            if field.field in values
        }
        ended = trial.created if trial.ended is None else trial.ended
        self._replace(
            self._folder / name,
            ROW,
            self._files.session_start({**cells, "status": trial.status}, trial.created),
            self._files.session_end(MARKS.get(trial.status, RUNNING), ended),
        )

    def _replace(self, folder: Path, kind: str, *events: object) -> None:
        """Write a file in place of those of its kind."""
        before, path = list(folder.glob(f"*.{kind}")), folder / _file_name(kind)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, self._files.whole(*events))
        for old in before:
            if old != path:
                old.unlink()


def _file_name(kind: str) -> str:
    """TensorBoard reads what has `tfevents` in its name, in the order of the names."""
    return f"events.out.tfevents.{int(time.time()):010d}.{kind}"
