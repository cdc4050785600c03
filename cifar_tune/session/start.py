"""One start of a search, new or going on: its data, its run, its outcome."""

from __future__ import annotations

import errno
import importlib
import platform
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from cifar_tune import __version__
from cifar_tune.errors import ResultsError, StorageError
from cifar_tune.finals.retraining import Workplace
from cifar_tune.plan import preflight
from cifar_tune.plan.config import Plan, budget_seconds
from cifar_tune.plan.machine import Machine, Share
from cifar_tune.plan.preflight import Forecast
from cifar_tune.record.journal import VERSION, Event, Journal
from cifar_tune.record.results import Recorder, Results, Say
from cifar_tune.record.tables import TableWriter, write_settings
from cifar_tune.record.warm_start import StartFrom
from cifar_tune.report.progress import progress_for
from cifar_tune.report.tensorboard import TensorBoardFiles
from cifar_tune.report.writer import ReportWriter
from cifar_tune.search.run import run_search
from cifar_tune.search.trainable import Objective, fit_objective
from cifar_tune.session.outcome import finish, resume_command
from cifar_tune.vision.data import Dataset, SearchData, prepare, prepare_drawn, search_data

# Of a pipe, of memory, of processes: the storage is not to blame.
NO_STORAGE = (errno.EPIPE, errno.ENOMEM, errno.EAGAIN, errno.ECHILD)
PACKAGES = (
    "lightning", "numpy", "optuna", "ray", "tensorboardX", "torch", "torchmetrics", "torchvision",
    "wandb",
)  # fmt: skip


def start_search(
    forecast: Forecast,
    folder: Path,
    machine: Machine,
    say: Say,
    *,
    start_from: StartFrom | None = None,
    objective: Objective = fit_objective,
) -> int:
    """Run a new search into `folder`, with known good points first; returns the exit code.

    Raises:
        CifarTuneError: the data is damaged, the folder is taken, the storage is full, or no trial
            is usable.
    """
    dataset, data = load_data(forecast.plan, say)
    folder.mkdir(parents=True, exist_ok=True)
    with Journal(folder) as journal:
        if journal.records.events:
            raise ResultsError(
                f"{folder} was taken by another search just now; go on with that:"
                f" {resume_command(folder)}, or choose another --name"
            )
        recorder = Recorder(journal)
        plan, environment = forecast.plan, _environment(machine, forecast.share)
        recorder.write(
            "search",
            version=VERSION,
            plan=plan.model_dump(mode="json"),
            data=_describe_data(dataset, data, plan),
            environment=environment,
        )
        if start_from is not None:
            record_start_from(recorder, start_from, dataset, say)
        return carry_out(recorder, dataset, data, machine, forecast.share, say, objective)


def record_start_from(
    recorder: Recorder, start_from: StartFrom, dataset: Dataset, say: Say
) -> None:
    """Write down what is known beforehand: the other search may be gone when this one goes on."""
    trials = list(start_from.trials)
    if trials and start_from.fingerprint != dataset.fingerprint:
        say(
            f"{start_from.source} was judged on other data: its points are tried, no more is learnt"
        )
        trials = []
    points = list(start_from.points)
    recorder.write("started_from", source=start_from.source, points=points, trials=trials)


def load_data(plan: Plan, say: Say, *, drawn: bool = False) -> tuple[Dataset, SearchData]:
    """The dataset; `drawn`: the search began on the drawn set, so nothing else will do."""
    dataset = prepare_drawn(say) if drawn else prepare(plan.data, say)
    data = search_data(dataset, plan.data)
    preflight.check_sizes(plan, len(data.train_labels))
    return dataset, data


def _describe_data(dataset: Dataset, data: SearchData, plan: Plan) -> dict[str, Any]:
    return {
        "kind": dataset.kind,
        "source": dataset.source,
        "fingerprint": dataset.fingerprint,
        "train": len(data.train_labels),
        "val": len(data.val_labels),
        "confirm": plan.data.confirm_size,
        "test": dataset.test_size,
        "classes": list(dataset.classes),
        "notes": list(dataset.notes),
    }


def _environment(machine: Machine, share: Share) -> dict[str, Any]:
    versions = {name: metadata.version(name) for name in PACKAGES}
    return {
        "versions": {"cifar_tune": __version__, "python": platform.python_version(), **versions},
        "platform": platform.platform(),
        "machine": asdict(machine),
        "resources": {
            "cpus_per_trial": share.cpus,
            "gpus_per_trial": share.gpus,
            "workers_per_trial": share.workers,
            "slots": share.slots,
        },
        "command": sys.argv,
    }


def carry_out(
    recorder: Recorder,
    dataset: Dataset,
    data: SearchData,
    machine: Machine,
    share: Share,
    say: Say,
    objective: Objective,
    *,
    only: Collection[str] | None = None,
) -> int:
    """Run what there is to run, write the outcome, and return the exit code.

    Args:
        recorder: of the folder, its plan settled for this machine.
        dataset, data: as `load_data` gives them.
        machine, share: where, and what each trial gets.
        say: shows a line.
        objective: what trains.
        only: the trials to run; none: all that are unfinished, and new ones.
    """
    folder = recorder.journal.folder
    environment = _environment(machine, share)
    if environment != recorder.results.environment:  # a start that goes on
        recorder.write("environment", environment=environment)
    with storage_errors(folder):
        write_settings(recorder.results)
    began, budget = time.monotonic(), recorder.results.plan.search.time_budget
    with workplace(folder, machine, share, say, objective) as place:
        with _watching(recorder, folder / "tensorboard", say):
            page = ReportWriter()
            recorder.observers += [TableWriter(), ImportsAhead(), page]
            stop = run_search(
                recorder,
                data,
                machine,
                share,
                objective=objective,
                resume_command=place.resume_command,
                only=only,
                ray_scope=place.ray_scope,
            )
        with storage_errors(folder), stop.on_signals():
            page.close()
            used = time.monotonic() - began
            left = None if budget is None else budget_seconds(budget) - used
            return finish(recorder, dataset, data, stop, say, place, seconds_left=left)


@contextmanager
def workplace(
    folder: Path, machine: Machine, share: Share, say: Say, objective: Objective
) -> Iterator[Workplace]:
    """Where trainings of the search in `folder` run; Ray ends with it, if it was started."""

    def watch(recorder: Recorder, title: str) -> AbstractContextManager[None]:
        tensorboard = folder / "tensorboard" / f"finals-{title}"
        return _watching(recorder, tensorboard, lambda line: say(f"{title}  {line}"), title)

    with ExitStack() as ray_scope:
        yield Workplace(
            machine=machine,
            share=share,
            objective=objective,
            ray_scope=ray_scope,
            resume_command=resume_command(folder),
            watch=watch,
        )


@contextmanager
def _watching(
    recorder: Recorder, tensorboard_folder: Path, say: Say, title: str = ""
) -> Iterator[None]:
    """Show what is recorded: as a table or as lines, and in TensorBoard's files."""
    quiet = recorder.results.plan.tracking.quiet
    progress = progress_for(say, sys.stdout, quiet=quiet, title=title)
    tensorboard = TensorBoardFiles(tensorboard_folder)
    recorder.observers = [progress, tensorboard]
    try:
        yield
    finally:
        recorder.observers = []
        progress.close()
        tensorboard.close()


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn what the disk raises into a `StorageError` with the way on."""
    try:
        yield
    except OSError as error:  # pyarrow's have a text alone
        if error.errno in NO_STORAGE:
            raise
        file = str(error.filename or folder)
        what = f"{folder} can't be written" if file.startswith(str(folder)) else f"{file} failed"
        reason = f"{error.strerror}: {file}" if error.strerror else error
        raise StorageError(
            f"{what}: {reason}; free space or bring"
            f" the storage back, then: {resume_command(folder)}"
        ) from None


class ImportsAhead:
    """Imports what comes after the search once a slot stays idle for want of trials."""

    def __init__(self) -> None:
        self._begun = False

    def __call__(self, event: Event, results: Results) -> None:
        """Observe one event of the journal."""
        all_created = len(results.trials) == results.plan.search.num_samples
        if event["event"] == "trial_ended" and all_created and not self._begun:
            self._begun = True
            target, arguments = importlib.import_module, ("cifar_tune.vision.best",)
            threading.Thread(target=target, args=arguments, daemon=True).start()
