"""Ends trials that hang: that have reported nothing for longer than `search.trial_timeout`."""

from __future__ import annotations

import time
from typing import Any

import ray
from ray import tune

from cifar_tune.record.results import PicklesAsNothing

START_SECONDS = 60.0  # more for the first report: imports took 20 s on two busy cores
STALL_SECONDS = 5.0  # Ray's loop comes by many times a second


class Watchdog(PicklesAsNothing, tune.Callback):
    """Kills the process of a trial that hangs; Ray then tells of a crash like any other.

    Attributes:
        hung: what to say of each trial that was ended, by Ray's trial id.
    """

    def __init__(self, timeout_seconds: float | None) -> None:
        """`timeout_seconds` without a report; none: for ever."""
        self.hung: dict[str, str] = {}
        self._timeout_seconds = timeout_seconds
        self._looked = time.monotonic()
        self._reported: dict[str, tuple[Any, float]] = {}  # Ray's trial and when it did, monotonic

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:
        """A trial has its process, which may have to import torch first."""
        self._reported[trial.trial_id] = trial, time.monotonic() + START_SECONDS

    def on_trial_result(self, *, trial: Any, **_: Any) -> None:
        """It is alive."""
        self._reported[trial.trial_id] = trial, time.monotonic()

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
        """Nothing more is expected of it."""
        self._reported.pop(trial.trial_id, None)

    on_trial_error = on_trial_complete

    def on_step_end(self, **_: Any) -> None:
        """Look at all that run; Ray's loop comes by many times a second."""
        if self._timeout_seconds is None:
            return
        now, looked = time.monotonic(), self._looked
        self._looked = now
        if now - looked > STALL_SECONDS:  # this process stood still, not its trials
            late = now - looked
            self._reported = {key: (one, at + late) for key, (one, at) in self._reported.items()}
        for trial, reported in list(self._reported.values()):
            silent = now - reported
            actor = trial.temporary_state.ray_actor
            if trial.status != "RUNNING" or actor is None or silent < self._timeout_seconds:
                continue
            self.hung[trial.trial_id] = f"nothing reported for {silent:.0f} s (--trial-timeout)"
            self._reported.pop(trial.trial_id)
            ray.kill(actor)
