"""Runs a search: starts Ray, hands the journal's trials to a Tuner, and stops when told to."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Collection
from contextlib import ExitStack
from functools import partial
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from ray import tune
from ray.tune.search import ConcurrencyLimiter

from cifar_tune.errors import PlanError
from cifar_tune.files import LONGEST_NAME, RAY, inside, is_of_finals, locate, name_of, parent
from cifar_tune.plan.compatibility import guarded_searcher
from cifar_tune.plan.config import Plan, budget_seconds
from cifar_tune.plan.guard import told
from cifar_tune.plan.machine import Machine, Share
from cifar_tune.plan.preflight import number_of_trials
from cifar_tune.process import current_directory
from cifar_tune.record.journal import Event, read_journal
from cifar_tune.record.results import Recorder, Results
from cifar_tune.search.checkpoints import to_go_on_from
from cifar_tune.search.driver import JournalCallback
from cifar_tune.search.joining import Joining
from cifar_tune.search.leaving import Leaving
from cifar_tune.search.methods import build_suggester
from cifar_tune.search.ray_instance import ray_for
from cifar_tune.search.schedulers import build_scheduler, refill
from cifar_tune.search.searchers import JournalledSearcher, PausingSearcher
from cifar_tune.search.stop import StopRequest
from cifar_tune.search.suggester import Suggester
from cifar_tune.search.trainable import Objective, train_trial
from cifar_tune.search.watchdog import Watchdog
from cifar_tune.vision.data import SearchData

FINALS_PART = 1 / 3  # of a time budget


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
    number = len(recorder.results.starts) + 1
    recorder.write(
        "start",
        number=number,
        slots=share.slots,
        storage=_storage(recorder, number),
        process=os.getpid(),
        plan=plan.model_dump(mode="json"),
    )
    with stop.on_signals(), ExitStack() as own_scope:
        (ray_scope or own_scope).enter_context(ray_for(plan, machine))
        stop.install()
        trainable = tune.with_parameters(
            train_trial,
            objective=objective,
            plan=plan,
            folder=recorder.journal.folder,
            data=data,
            place=current_directory() or "",
        )
        trainable = tune.with_resources(trainable, {"cpu": share.cpus, "gpu": share.gpus})
        _run_tuner(recorder, searcher, trainable, share, stop)
    recorder.observers.remove(learning)
    if only is not None and _more_to_do(recorder.results):
        stop.ask("only the failed trials were tried again")
    _settle(recorder, stop)
    return stop


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
            with guarded_searcher(self._searcher, f"told of {event['event']} it"):
                self._suggester.observe(event, results)
        except Exception as error:
            what = f"told of {event['event']} it {told(error)}"
            other = PlanError(f"search.searcher is {self._searcher!r}; {what}")
            other.__cause__ = error
            self._stop.fail(error if isinstance(error, PlanError) else other)


def _run_tuner(
    recorder: Recorder,
    searcher: JournalledSearcher,
    trainable: Any,
    share: Share,
    stop: StopRequest,
) -> None:
    plan, number = recorder.results.plan, recorder.results.starts[-1].number
    scheduler = build_scheduler(plan, recorder.results.exchanges)
    refill(scheduler, read_journal(recorder.journal.folder).of("result"))
    timeout = plan.search.trial_timeout
    watchdog = Watchdog(None if timeout is None else budget_seconds(timeout))
    callback = JournalCallback(recorder, searcher, watchdog, stop, number)
    limiter = ConcurrencyLimiter(searcher, max_concurrent=share.slots)
    joining = Joining(recorder, limiter, share, stop)
    callbacks = [
        callback,
        watchdog,
        Leaving(stop),
        *([] if plan.resources.address is None else [joining]),
    ]
    storage = locate(recorder.journal.folder, recorder.results.starts[-1].storage)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=limiter,
            scheduler=scheduler,
            num_samples=-1,  # the searcher knows when it is done; Ray counts a retry as one more
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=name_of(storage),
            storage_path=parent(storage),
            callbacks=callbacks,
            # Ours is the word on what is tried again: by the kind of failure, and the trial alone
            # if it ran out of memory.
            failure_config=tune.FailureConfig(max_failures=0),
            stop=stop,
            verbose=0,
        ),
    )
    _leave_callbacks_uncounted()
    # Ray tells of failed trials once more and at length; the journal and our line have it.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        tuner.fit()
    except Exception:  # on a full disk, Ray trips over the files that it wrote itself
        if not any((callback.failure, joining.failure, searcher.failure)):
            raise
    for failure in (callback.failure, joining.failure):
        if failure is not None:
            raise failure
    if isinstance(searcher.failure, PlanError):
        stop.fail(searcher.failure)  # what is recorded gets its outcome first
    elif searcher.failure is not None:
        raise searcher.failure


def _leave_callbacks_uncounted() -> None:
    """Ray counts callbacks by kind for its usage statistics, and imports wandb for that: 1.2 s."""
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
