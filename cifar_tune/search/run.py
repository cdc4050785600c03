"""Runs a search: starts Ray, hands the journal's trials to a Tuner, and stops when told to."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import ray
from ray import tune
from ray.tune.error import TuneError

from cifar_tune.config import Plan, budget_seconds
from cifar_tune.data import SearchData
from cifar_tune.machine import Machine
from cifar_tune.preflight import has_own_model
from cifar_tune.resources import Share
from cifar_tune.results import UNFINISHED, Recorder, Trial
from cifar_tune.search.driver import JournalCallback, drop_checkpoints
from cifar_tune.search.schedulers import build_scheduler, refill
from cifar_tune.search.searchers import JournalledSearcher
from cifar_tune.search.trainable import Objective, is_whole, train_trial

RAY_SETTINGS = {
    # Prestarted workers are not the ones that trials get here: on two cores four processes would
    # import torch at once, and the first step would come twice as late.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the newer output can't be silenced
    "RAY_DEDUP_LOGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # 7 ms a report, and five files a trial
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # or a trial without a report ends the search
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours saves and names the command to go on
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "30",  # an online tracker may take long to finish
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # Ray's snapshots are never read
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the journal and our own line have the reason
    "TUNE_WARN_THRESHOLD_S": "10",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial of 0 GPUs sees none
}


class StopRequest(tune.Stopper):
    """Ends the whole search at a signal or when its time is up; trials stay resumable."""

    def __init__(self, budget_seconds: float | None, resume_command: str) -> None:
        self.reason: str | None = None
        self.signal: int | None = None
        self._resume_command = resume_command
        self._deadline = None if budget_seconds is None else time.monotonic() + budget_seconds

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Single trials are the scheduler's business."""
        return False

    def stop_all(self) -> bool:
        """Whether the search ends now."""
        late = self._deadline is not None and time.monotonic() > self._deadline
        if late and self.reason is None:
            self.reason = "time budget"
        return self.reason is not None

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM ask for the stop; a second one leaves at once."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.install()
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def install(self) -> None:
        """Set the handlers; again after `ray.init`, which sets its own for SIGTERM."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            # The journal is on disk up to the last acknowledged report: nothing is lost.
            os.write(2, f"\nLeft at once. Go on with:\n{self._resume_command}\n".encode())
            os._exit(128 + number)
        self.signal = number
        self.reason = signal.Signals(number).name


def run_search(
    recorder: Recorder,
    data: SearchData,
    machine: Machine,
    share: Share,
    *,
    objective: Objective,
    resume_command: str = "",
) -> StopRequest:
    """Run the search in the recorder's folder until it is done or told to stop.

    Args:
        recorder: holds the settled plan, and what earlier starts recorded.
        data: training and validation arrays; they are put into Ray's object store once.
        machine: this machine.
        share: what each trial gets, and how many run at once.
        objective: what trains.
        resume_command: shown when a second signal ends the program at once.

    Returns:
        The request that ended it early, or one whose `reason` is None.

    Raises:
        StorageError: the journal could not be written.
    """
    plan, folder = recorder.results.plan, recorder.journal.folder
    limit = plan.search.time_budget
    stop = StopRequest(None if limit is None else budget_seconds(limit), resume_command)
    searcher = JournalledSearcher(recorder, lambda trial: _checkpoints(recorder, trial))
    if not searcher.remaining():
        return stop
    number = len(recorder.results.starts) + 1
    recorder.write(
        "start",
        number=number,
        slots=share.slots,
        process=os.getpid(),
        plan=plan.model_dump(mode="json"),
    )
    with stop.on_signals(), local_ray(machine, plan):
        stop.install()
        trainable = tune.with_resources(
            tune.with_parameters(
                train_trial,
                objective=objective,
                plan=plan,
                folder=folder,
                data=data,
            ),
            {"cpu": share.cpus, "gpu": share.gpus},
        )
        _run_tuner(recorder, searcher, trainable, share, stop, number)
    _settle(recorder, stop)
    return stop


def _run_tuner(
    recorder: Recorder,
    searcher: JournalledSearcher,
    trainable: Any,
    share: Share,
    stop: StopRequest,
    number: int,
) -> None:
    plan = recorder.results.plan
    scheduler = build_scheduler(plan)
    refill(scheduler, recorder.journal.records.of("result"))
    callback = JournalCallback(recorder, number)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=searcher.remaining(),
            max_concurrent_trials=share.slots,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=str(number),
            storage_path=str(recorder.journal.folder / "ray"),
            callbacks=[callback],
            failure_config=tune.FailureConfig(max_failures=plan.search.max_failures),
            stop=stop,
            verbose=0,
        ),
    )
    # Ray tells of failed trials once more and at length; the journal and our line have it.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        tuner.fit()
    except TuneError:
        if callback.failure is not None:
            raise callback.failure from None
        raise


def _trial_name(trial: Any) -> str:
    return str(trial.config["trial_id"])


def _checkpoints(recorder: Recorder, trial: Trial) -> list[str]:
    """Absolute paths of a trial's whole checkpoints, the newest first; the others are given up."""
    paths = {epoch: recorder.journal.folder / path for epoch, path in trial.checkpoints.items()}
    lost = [epoch for epoch, path in paths.items() if not is_whole(path)]
    if lost:
        recorder.write("checkpoints_lost", trial_id=trial.trial_id, epochs=lost)
    return [str(paths[epoch]) for epoch in sorted(paths)[::-1] if epoch not in lost]


@contextmanager
def local_ray(machine: Machine, plan: Plan) -> Iterator[None]:
    """A Ray instance of this process's own, which joins no other; one that runs here is used."""
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    if ray.is_initialized():
        yield
        return
    if has_own_model(plan):  # the user's module lies where the command was given
        path = [os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(path)
    umask = os.umask(0o077)  # Ray writes its token with the umask's permissions
    try:
        ray.init(
            address="local",
            num_cpus=machine.cpus,
            num_gpus=machine.gpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    finally:
        os.umask(umask)
    try:
        yield
    finally:
        ray.shutdown()


def _settle(recorder: Recorder, stop: StopRequest) -> None:
    """After the search: name what did not end, and delete the checkpoints nobody needs."""
    results = recorder.results
    if stop.reason is not None:
        recorder.write("stopped", reason=stop.reason)
    for trial in list(results.trials.values()):
        if trial.status in UNFINISHED and trial.status != "interrupted":
            recorder.write(
                "trial_ended",
                trial_id=trial.trial_id,
                status="interrupted",
                reason=stop.reason or "",
            )


def tidy(recorder: Recorder) -> None:
    """Delete what is not needed once `best/` is written: losers' checkpoints, Ray's own files."""
    for trial in list(recorder.results.trials.values()):
        drop_checkpoints(recorder, trial, final=True)
    kept = {
        (recorder.journal.folder / path).parent.parent
        for trial in recorder.results.trials.values()
        for path in trial.checkpoints.values()
    }
    for start in (recorder.journal.folder / "ray").glob("*"):
        for entry in start.iterdir():
            if entry in kept:
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        if not any(start.iterdir()):
            start.rmdir()
