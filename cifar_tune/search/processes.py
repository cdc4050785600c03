"""Watches what trials run in: processes that hang or hold up a stop, nodes that come and go."""

from __future__ import annotations

import importlib
import threading
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune
from ray.tune.search import ConcurrencyLimiter

from cifar_tune.plan.machine import Share, slots_on
from cifar_tune.plan.task import task_of
from cifar_tune.record.journal import Event
from cifar_tune.record.recorder import PicklesAsNothing
from cifar_tune.record.results import Results
from cifar_tune.search.callbacks import JournalCallback
from cifar_tune.search.cluster import live_nodes, unseen
from cifar_tune.search.ray_instance import get_ready
from cifar_tune.search.stop import StopRequest

START_SECONDS = 60.0  # more for the first report: imports took 20 s on two busy cores
STALL_SECONDS = 5.0  # Ray's loop comes by many times a second
GRACE_SECONDS = 3.0  # for a trial to end by itself; ten are promised for the whole stop
LOOK_SECONDS = 5.0  # between looks at a cluster's nodes


class Ahead(PicklesAsNothing):
    """Gets ready for what comes after a search once a slot stays idle for want of trials."""

    def __init__(self, slots: int) -> None:
        """`slots` trials run at once."""
        self._slots = slots
        self._begun = False

    def __call__(self, event: Event, results: Results) -> None:
        finals, created = results.plan.finals, len(results.trials)
        ended = event["event"] == "trial_ended" and event["status"] != "interrupted"
        if self._begun or not ended or created < results.plan.search.num_samples:
            return
        self._begun = True
        for name in task_of(results.plan).modules:  # of the models that are written and scored
            target = importlib.import_module
            threading.Thread(target=target, args=(name,), daemon=True).start()
        if finals.seeds:
            get_ready(min(self._slots, finals.candidates * finals.seeds))


@dataclass
class _Process:
    """Where a trial of Ray's runs, and when it reported last (monotonic)."""

    trial: Any
    actor: Any
    reported: float


class ProcessWatch(PicklesAsNothing, tune.Callback):
    """Kills the process of a trial that hangs, and a few seconds after a signal what still runs.

    Ray tells of a killed trial as of a crash like any other. At a stop a trial ends in its next
    report. Ray waits ten seconds for that and then kills it too, which is as long as whoever sent
    the signal waits for us. What was acknowledged is in the journal.

    Attributes:
        hung: what to say of each trial that was ended because it hung, by Ray's trial id.
    """

    def __init__(self, stop: StopRequest, timeout_seconds: float | None) -> None:
        """`timeout_seconds` without a report make a trial hang; none: it never does."""
        self.hung: dict[str, str] = {}
        self._stop = stop
        self._timeout_seconds = timeout_seconds
        self._looked = time.monotonic()
        self._running: dict[str, _Process] = {}  # by Ray's trial id
        self._leaving = False

    def setup(self, **_: Any) -> None:
        """Tune has taken SIGUSR1 just now, to end without a word."""
        self._stop.install()

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:
        """A trial has its process, which may have to import torch first."""
        actor, reported = trial.temporary_state.ray_actor, time.monotonic() + START_SECONDS
        self._running[trial.trial_id] = _Process(trial, actor, reported)

    def on_trial_result(self, *, trial: Any, **_: Any) -> None:
        if trial.trial_id in self._running:
            self._running[trial.trial_id].reported = time.monotonic()

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
        """Its process may serve another; at a stop, it may still be busy."""
        if self._stop.signal is None:
            self._running.pop(trial.trial_id, None)

    on_trial_error = on_trial_complete

    def on_step_end(self, **_: Any) -> None:
        """Ray's loop comes by many times a second; its last step is the first after a signal."""
        if self._stop.signal is None:
            if self._timeout_seconds is not None:
                self._end_hung(self._timeout_seconds)
        elif not self._leaving:
            self._leaving = True
            timer = threading.Timer(GRACE_SECONDS, self._kill_all)
            timer.daemon = True
            timer.start()

    def _end_hung(self, timeout_seconds: float) -> None:
        now, looked = time.monotonic(), self._looked
        self._looked = now
        for name, process in list(self._running.items()):
            if now - looked > STALL_SECONDS:  # this process stood still, not its trials
                process.reported += now - looked
            silent = now - process.reported
            if process.trial.status == "RUNNING" and silent >= timeout_seconds:
                self.hung[name] = f"nothing reported for {silent:.0f} s (--trial-timeout)"
                del self._running[name]
                ray.kill(process.actor)

    def _kill_all(self) -> None:
        if ray.is_initialized():
            for process in self._running.values():
                ray.kill(process.actor)


class NodeWatch(PicklesAsNothing, tune.Callback):
    """Sets how many trials run at once to what the nodes of a cluster that are there can hold."""

    def __init__(
        self, results: Results, journal: JournalCallback, limiter: ConcurrencyLimiter, share: Share
    ) -> None:
        """Follow the cluster that has been joined; `share.slots` is what it holds now."""
        self._resources = results.plan.resources
        self._journal = journal
        self._limiter = limiter
        self._share = share
        self._slots = share.slots
        self._looked = time.monotonic()

    def on_step_end(self, **_: Any) -> None:
        """Look at the nodes; Ray's loop comes by many times a second."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        nodes = [unseen(node) for node in live_nodes()]
        # Without a single node left, one trial waits until there is one again.
        slots = max(1, slots_on(self._resources, nodes, self._share))
        if slots != self._slots:
            self._slots = slots
            self._limiter.set_max_concurrency(slots)
            self._journal.write("slots_changed", slots=slots, nodes=len(nodes))
