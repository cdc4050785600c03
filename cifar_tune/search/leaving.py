"""Ends the processes of trials that would hold up a stop by a signal."""

from __future__ import annotations

import threading
from typing import Any

import ray
from ray import tune

from cifar_tune.record.results import PicklesAsNothing
from cifar_tune.search.stop import StopRequest

GRACE_SECONDS = 3.0  # for a trial to end by itself; ten are promised for the whole stop


class Leaving(PicklesAsNothing, tune.Callback):
    """Kills what still runs a few seconds after a signal.

    A trial ends in its next report. Ray waits ten seconds for that and then does the same, which
    is as long as whoever sent the signal waits for us. What was acknowledged is in the journal.
    """

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop
        self._actors: dict[str, Any] = {}  # by Ray's trial id
        self._begun = False

    def setup(self, **_: Any) -> None:
        """Tune has taken SIGUSR1 just now, to end without a word."""
        self._stop.install()

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:
        """A trial has its process."""
        self._actors[trial.trial_id] = trial.temporary_state.ray_actor

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
        """Its process may serve another; at a stop, it may still be busy."""
        if self._stop.signal is None:
            self._actors.pop(trial.trial_id, None)

    on_trial_error = on_trial_complete

    def on_step_end(self, **_: Any) -> None:
        """Ray's last step is the one in which it sees the request."""
        if self._stop.signal is not None and not self._begun:
            self._begun = True
            timer = threading.Timer(GRACE_SECONDS, self._kill)
            timer.daemon = True
            timer.start()

    def _kill(self) -> None:
        if ray.is_initialized():
            for actor in self._actors.values():
                ray.kill(actor)
