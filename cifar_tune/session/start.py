"""One start of a search, new or going on: its data, its run, its outcome."""

from __future__ import annotations

import errno
import platform
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from cifar_tune import __version__
from cifar_tune.errors import ResultsError
from cifar_tune.plan.machine import Machine, Share
from cifar_tune.plan.preflight import Forecast
from cifar_tune.plan.section import budget_seconds
from cifar_tune.plan.task import Data, Say, task_of
from cifar_tune.record.journal import VERSION, Journal, resume_command, storage_error
from cifar_tune.record.recorder import Recorder
from cifar_tune.record.tables import TableWriter, write_settings
from cifar_tune.record.warm_start import StartFrom
from cifar_tune.report.progress import progress_for
from cifar_tune.report.tensorboard import TensorBoardFiles
from cifar_tune.report.writer import ReportWriter
from cifar_tune.search.ahead import get_ready
from cifar_tune.search.ray_instance import ray_for
from cifar_tune.search.run import run_search
from cifar_tune.search.session import Session
from cifar_tune.search.trainable import Objective, fit_objective, imports_of
from cifar_tune.session.outcome import finish

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
    with ExitStack() as early:
        if forecast.plan.resources.address is None:
            # The processes of the first trials import torch while this one opens the data.
            imports = imports_of(objective, forecast.plan)
            early.enter_context(ray_for(forecast.plan, machine, imports=imports))
            processes = min(forecast.share.slots, forecast.plan.search.num_samples)
            get_ready(processes, first=True)
        data = task_of(forecast.plan).open(forecast.plan, say)
        folder.mkdir(parents=True, exist_ok=True)
        with Journal(folder) as journal, early.pop_all() as ray:  # Ray ends within the lock
            if journal.records.events:
                raise ResultsError(
                    f"{folder} was taken by another search just now; go on with that:"
                    f" {resume_command(folder)}, or choose another --name"
                )
            recorder = Recorder(journal)
            plan, environment = data.settled(forecast.plan), _environment(machine, forecast.share)
            recorder.write(
                "search",
                version=VERSION,
                plan=plan.model_dump(mode="json"),
                data=dict(data.facts),
                environment=environment,
            )
            if start_from is not None:
                record_start_from(recorder, start_from, data, say)
            return carry_out(
                session_of(recorder, data, machine, forecast.share, say, objective, ray)
            )


def record_start_from(recorder: Recorder, start_from: StartFrom, data: Data, say: Say) -> None:
    """Write down what is known beforehand: the other search may be gone when this one goes on."""
    trials = list(start_from.trials)
    if trials and start_from.fingerprint != data.fingerprint:
        say(
            f"{start_from.source} was judged on other data: its points are tried, no more is learnt"
        )
        trials = []
    points = list(start_from.points)
    recorder.write("started_from", source=start_from.source, points=points, trials=trials)


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


def session_of(
    recorder: Recorder,
    data: Data,
    machine: Machine,
    share: Share,
    say: Say,
    objective: Objective,
    ray: ExitStack,
) -> Session:
    """All that this start works on and with; Ray ends with `ray`, where it is started."""
    folder = recorder.journal.folder

    def watch(stage: Recorder, title: str, names: Sequence[str]) -> AbstractContextManager[None]:
        tensorboard = folder / "tensorboard" / f"finals-{title}"
        return _watching(stage, tensorboard, lambda line: say(f"{title}  {line}"), title, names)

    return Session(
        recorder=recorder,
        data=data,
        machine=machine,
        share=share,
        say=say,
        objective=objective,
        ray=ray,
        resume_command=resume_command(folder),
        watch=watch,
    )


def carry_out(session: Session, *, only: Collection[str] | None = None) -> int:
    """Run all unfinished trials and new ones, or `only` some; returns the outcome's exit code."""
    recorder, folder = session.recorder, session.folder
    environment = _environment(session.machine, session.share)
    if environment != session.results.environment:  # a start that goes on
        recorder.write("environment", environment=environment)
    with storage_errors(folder):
        write_settings(session.results)
    began, budget = time.monotonic(), session.plan.search.time_budget
    with _watching(recorder, folder / "tensorboard", session.say):
        page = ReportWriter()
        recorder.observers += [TableWriter(), page]
        stop = run_search(session, session.data.part("search"), only=only)
    with storage_errors(folder), stop.on_signals():
        page.close(wait=stop.signal is None)
        used = time.monotonic() - began
        left = None if budget is None else budget_seconds(budget) - used
        return finish(session, stop, seconds_left=left)


@contextmanager
def _watching(
    recorder: Recorder,
    tensorboard_folder: Path,
    say: Say,
    title: str = "",
    names: Sequence[str] = (),
) -> Iterator[None]:
    """Show what is recorded: as a table or as lines, and in TensorBoard's files."""
    quiet = recorder.results.plan.tracking.quiet
    progress = progress_for(say, sys.stdout, quiet=quiet, title=title, names=names)
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
    except OSError as error:
        if error.errno in NO_STORAGE:
            raise
        raise storage_error(folder, error) from None
