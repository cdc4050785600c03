"""Runs a search: starts Ray, hands the journal's trials to a Tuner, and stops when told to."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import ray
from ray import tune
from ray._private import ray_constants
from ray.tune.error import TuneError

from cifar_tune.config import Plan, budget_seconds
from cifar_tune.data import SearchData
from cifar_tune.errors import CifarTuneError, PlanError
from cifar_tune.journal import Event
from cifar_tune.machine import Machine
from cifar_tune.own_code import told
from cifar_tune.preflight import has_own_model, number_of_trials
from cifar_tune.resources import Share
from cifar_tune.results import Recorder, Results
from cifar_tune.search.checkpoints import to_go_on_from
from cifar_tune.search.driver import JournalCallback
from cifar_tune.search.methods import build_suggester
from cifar_tune.search.schedulers import build_scheduler, refill
from cifar_tune.search.searchers import JournalledSearcher, PausingSearcher
from cifar_tune.search.stop import StopRequest
from cifar_tune.search.suggester import Suggester
from cifar_tune.search.trainable import Objective, train_trial
from cifar_tune.search.watchdog import Watchdog

FINALS_PART = 1 / 3  # of a time budget
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


def run_search(
    recorder: Recorder,
    data: SearchData,
    machine: Machine,
    share: Share,
    *,
    objective: Objective,
    resume_command: str = "",
    only: Collection[str] | None = None,
    ray_scope: ExitStack | None = None,
) -> StopRequest:
    """Run the search in the recorder's folder until it is done or told to stop.

    Args:
        recorder: holds the settled plan, and what earlier starts recorded.
        data: training and validation arrays; they are put into Ray's object store once.
        machine: this machine.
        share: what each trial gets, and how many run at once.
        objective: what trains.
        resume_command: shown when a second signal ends the program at once.
        only: the trials to run; none: all that are unfinished, and new ones.
        ray_scope: Ray, once started, ends with it, so that more can run there; none: with
            the search.

    Returns:
        The request that ended it early, or one whose `reason` is None.

    Raises:
        StorageError: the journal could not be written.
        PlanError: a searcher of the user's own can't be used.
    """
    plan = recorder.results.plan
    stop = StopRequest(_search_seconds(plan), resume_command)
    if not _more_to_do(recorder.results, only):
        return stop
    suggester = build_suggester(recorder)
    kind: Any = PausingSearcher if plan.search.searcher == "bohb" else JournalledSearcher
    searcher = kind(recorder, suggester, partial(to_go_on_from, recorder), only=only)
    learning = _Learning(suggester, stop, plan)
    recorder.observers.append(learning)
    recorder.write(
        "start",
        number=len(recorder.results.starts) + 1,
        slots=share.slots,
        process=os.getpid(),
        plan=plan.model_dump(mode="json"),
    )
    with stop.on_signals(), ExitStack() as own_scope:
        (ray_scope or own_scope).enter_context(local_ray(machine, plan))
        stop.install()
        trainable = tune.with_parameters(
            train_trial,
            objective=objective,
            plan=plan,
            folder=recorder.journal.folder,
            data=data,
        )
        trainable = tune.with_resources(trainable, {"cpu": share.cpus, "gpu": share.gpus})
        _run_tuner(recorder, searcher, trainable, share, stop)
    recorder.observers.remove(learning)
    if only is not None and _more_to_do(recorder.results):
        stop.ask("only the failed trials were tried again")
    _settle(recorder, stop)
    return stop


def _search_seconds(plan: Plan) -> float | None:
    """How long the search itself may take: of a time budget, the finals get a part."""
    if plan.search.time_budget is None:
        return None
    part = 1 - FINALS_PART if plan.finals.seeds else 1.0
    return part * budget_seconds(plan.search.time_budget)


class _Learning:
    """Tells a suggester what happens; if it can't take that in, the search ends and says so."""

    def __init__(self, suggester: Suggester, stop: StopRequest, plan: Plan) -> None:
        self._suggester = suggester
        self._stop = stop
        self._searcher = plan.search.searcher

    def __call__(self, event: Event, results: Results) -> None:
        """Observe one event of the journal."""
        if self._stop.error is not None:
            return
        try:
            self._suggester.observe(event, results)
        except Exception as error:  # a user's own code may raise anything
            what = f"raised {told(error)} when it was told of {event['event']}"
            told_so = PlanError(f"search.searcher is {self._searcher!r}, which {what}; mend it")
            told_so.__cause__ = error
            self._stop.fail(told_so)


def _run_tuner(
    recorder: Recorder,
    searcher: JournalledSearcher,
    trainable: Any,
    share: Share,
    stop: StopRequest,
) -> None:
    plan, number = recorder.results.plan, recorder.results.starts[-1].number
    scheduler = build_scheduler(plan, recorder.results.exchanges)
    refill(scheduler, recorder.journal.records.of("result"))
    timeout = plan.search.trial_timeout
    watchdog = Watchdog(None if timeout is None else budget_seconds(timeout))
    callback = JournalCallback(recorder, searcher, watchdog, stop, number)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,  # the searcher knows when it is done; Ray counts a retry as one more
            max_concurrent_trials=share.slots,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=str(number),
            storage_path=str(recorder.journal.folder / "ray"),
            callbacks=[callback, watchdog],
            # Ours is the word on what is tried again: by the kind of failure, and the trial alone
            # if it ran out of memory.
            failure_config=tune.FailureConfig(max_failures=0),
            stop=stop,
            verbose=0,
        ),
    )
    # Ray tells of failed trials once more and at length; the journal and our line have it.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        tuner.fit()
    except (TuneError, CifarTuneError):
        if callback.failure is None and searcher.failure is None:
            raise
    if callback.failure is not None:
        raise callback.failure
    if isinstance(searcher.failure, PlanError):
        stop.fail(searcher.failure)  # what is recorded gets its outcome first
    elif searcher.failure is not None:
        raise searcher.failure


def _trial_name(trial: Any) -> str:
    name, hand_out = trial.config["trial_id"], trial.config["hand_out"]
    return name if hand_out == 1 else f"{name}-{hand_out}"


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
        with _on_loopback():
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


@contextmanager
def _on_loopback() -> Iterator[None]:
    """A Ray that starts meanwhile takes 127.0.0.1 for this machine's address, and listens there.

    Ray does so by itself on macOS and Windows, by this constant; elsewhere its processes listen on
    all interfaces. `_node_ip_address="127.0.0.1"` won't do: `ray.init` puts the machine's outer
    address in its place.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _more_to_do(results: Results, only: Collection[str] | None = None) -> bool:
    """Whether trials are still to run or to be created; with `only`, whether one of these is."""
    unfinished = results.unfinished()
    if only is not None:
        return any(trial.trial_id in only for trial in unfinished)
    return bool(unfinished) or len(results.trials) < number_of_trials(results.plan)


def _settle(recorder: Recorder, stop: StopRequest) -> None:
    """After the search: name what did not end, and delete the checkpoints nobody needs."""
    results = recorder.results
    if stop.reason is not None:
        recorder.write("stopped", reason=stop.reason)
    for trial in results.unfinished():
        if trial.status != "interrupted":
            recorder.write(
                "trial_ended",
                trial_id=trial.trial_id,
                status="interrupted",
                reason=stop.reason or "",
            )
