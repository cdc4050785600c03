"""Runs a search: starts Ray, hands the journal's trials to a Tuner, and stops when told to."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from ray import tune
from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import ConcurrencyLimiter

from cifar_tune.errors import PlanError
from cifar_tune.files import LONGEST_NAME, RAY, inside, is_of_finals, locate, name_of, parent
from cifar_tune.plan.compatibility import guarded_searcher
from cifar_tune.plan.config import Plan
from cifar_tune.plan.section import budget_seconds
from cifar_tune.process import current_directory
from cifar_tune.record.recorder import Recorder
from cifar_tune.record.results import Results
from cifar_tune.search.ahead import Ahead
from cifar_tune.search.callbacks import JournalCallback
from cifar_tune.search.processes import NodeWatch, ProcessWatch
from cifar_tune.search.queue import TrialQueue
from cifar_tune.search.ray_instance import ray_for
from cifar_tune.search.schedulers import build_scheduler, refill
from cifar_tune.search.session import Session
from cifar_tune.search.stop import StopRequest
from cifar_tune.search.suggester import Suggester, build_suggester
from cifar_tune.search.trainable import imports_of, train_trial

FINALS_PART = 1 / 3  # of a time budget


def run_search(session: Session, part: Any, *, only: Collection[str] | None = None) -> StopRequest:
    """Run the session's search until it is done or told to stop.

    Args:
        part: what trainings get of the data; it is put into Ray's object store once.
        only: the trials to run; none: all that are unfinished, and new ones.

    Returns:
        The request that ended it early, or one whose `reason` is None.

    Raises:
        StorageError: the journal could not be written.
        PlanError: a searcher of the user's own can't be used.
    """
    recorder, plan, share = session.recorder, session.plan, session.share
    stop = StopRequest(_search_seconds(plan), session.resume_command)
    if not _more_to_do(session.results, only):
        return stop
    suggester, scheduler = _told_all(recorder)
    queue = TrialQueue(recorder, suggester, stop, only=only)
    recorder.observers.append(queue.learn)
    imports = imports_of(session.objective, plan)
    if imports:
        recorder.observers.append(Ahead(share.slots))
    _record_start(session)
    with stop.on_signals():
        session.ray.enter_context(ray_for(plan, session.machine, imports=imports))
        stop.install()
        trainable = tune.with_parameters(
            train_trial,
            objective=session.objective,
            plan=plan,
            folder=session.folder,
            part=part,
            place=current_directory() or "",
        )
        trainable = tune.with_resources(trainable, {"cpu": share.cpus, "gpu": share.gpus})
        _run_tuner(session, queue, scheduler, trainable, stop)
    recorder.observers.remove(queue.learn)
    if only is not None and _more_to_do(session.results):
        stop.ask("only the failed trials were tried again")
    _settle(recorder, stop)
    return stop


def _told_all(recorder: Recorder) -> tuple[Suggester, TrialScheduler]:
    """Suggester and scheduler of the plan, at the point where its journal ends."""
    results, events = recorder.results, recorder.journal.let_go()
    with guarded_searcher(results.plan.search.searcher, "making it"):
        suggester = build_suggester(results.plan, results.folder)
        for event in events:
            suggester.observe(event, results)
    scheduler = build_scheduler(results.plan, results.exchanges)
    refill(scheduler, results.plan, (one for one in events if one["event"] == "result"))
    return suggester, scheduler


def _record_start(session: Session) -> None:
    number = len(session.results.starts) + 1
    session.recorder.write(
        "start",
        number=number,
        slots=session.share.slots,
        storage=_storage(session.recorder, number),
        process=os.getpid(),
        plan=session.plan.model_dump(mode="json"),
    )


def _storage(recorder: Recorder, number: int) -> str:
    """Where this start's checkpoints lie, as the journal names it.

    Outside the results folder the name is one that no other search has.
    """
    folder, path = recorder.journal.folder, recorder.results.plan.resources.storage_path
    if path is None:
        return f"{RAY}/{number}"
    name = f"{folder.parent.parent.name}-{folder.name}" if is_of_finals(folder) else folder.name
    # Quoted, a letter may have twelve bytes; the number tells names apart that are cut.
    quoted = re.sub("%.?$", "", quote(name, safe="")[: LONGEST_NAME - len("-01234567")])
    return inside(path, f"{quoted}-{uuid4().hex[:8]}", str(number))


def _search_seconds(plan: Plan) -> float | None:
    """How long the search itself may take: of a time budget, the finals get a part."""
    if plan.search.time_budget is None:
        return None
    part = 1 - FINALS_PART if plan.finals.seeds else 1.0
    return part * budget_seconds(plan.search.time_budget)


def _run_tuner(
    session: Session,
    queue: TrialQueue,
    scheduler: TrialScheduler,
    trainable: Any,
    stop: StopRequest,
) -> None:
    limiter = ConcurrencyLimiter(queue, max_concurrent=session.share.slots)
    storage = locate(session.folder, session.results.starts[-1].storage)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=limiter,
            scheduler=scheduler,
            num_samples=-1,  # the queue knows when it is done; Ray counts a retry as one more
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=name_of(storage),
            storage_path=parent(storage),
            callbacks=_callbacks(session, queue, limiter, stop),
            # Ours is the word on what is tried again: by the kind of failure, and the trial alone
            # if it ran out of memory.
            failure_config=tune.FailureConfig(max_failures=0),
            stop=stop,
            verbose=0,
        ),
    )
    _quieten_ray()
    try:
        with _lost_memory_is_of_trials():
            tuner.fit()
    except Exception:  # on a full disk, Ray trips over the files that it wrote itself
        if stop.error is None:
            raise
    if stop.error is not None and not isinstance(stop.error, PlanError):
        raise stop.error  # after a fault of the plan, what is recorded gets its outcome first


@contextmanager
def _lost_memory_is_of_trials() -> Iterator[None]:
    """Tune takes an actor's death for its trial's failure, and ends at other errors of Ray's: also
    at that of Ray's monitor, which kills processes when a node's memory runs low."""
    judge = RayActorManager._actor_task_failed

    def failed(manager: Any, *, exception: Exception, **task: Any) -> None:
        if isinstance(exception, OutOfMemoryError):
            told = str(exception).partition("\n")[0]
            exception = RayActorError(error_msg=f"{type(exception).__name__}: {told}")
        judge(manager, exception=exception, **task)

    RayActorManager._actor_task_failed = failed
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = judge


def _callbacks(
    session: Session, queue: TrialQueue, limiter: ConcurrencyLimiter, stop: StopRequest
) -> list[tune.Callback]:
    search, results = session.plan.search, session.results
    timeout = None if search.trial_timeout is None else budget_seconds(search.trial_timeout)
    watch = ProcessWatch(stop, timeout)
    journal = JournalCallback(session.recorder, queue, watch.hung, stop, results.starts[-1].number)
    if session.plan.resources.address is None:
        return [journal, watch]
    return [journal, watch, NodeWatch(results, journal, limiter, session.share)]


def _quieten_ray() -> None:
    """Ray tells of failed trials once more and at length; the journal and our line have it.

    It counts callbacks by kind for its usage statistics, and imports wandb for that: 1.2 s.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    usage: Any = sys.modules.get("ray.air._internal.usage")
    if usage is not None:
        usage.tag_callbacks = lambda _callbacks: False


def _trial_name(trial: Any) -> str:
    name, hand_out = trial.config["trial_id"], trial.config["hand_out"]
    return name if hand_out == 1 else f"{name}-{hand_out}"


def _more_to_do(results: Results, only: Collection[str] | None = None) -> bool:
    """Whether trials are still to run or to be created; with `only`, whether one of these is."""
    unfinished = results.unfinished()
    if only is not None:
        return any(trial.trial_id in only for trial in unfinished)
    return bool(unfinished) or len(results.trials) < results.plan.search.num_samples


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
