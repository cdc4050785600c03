"""Follows a cluster while a search runs there: more trials run at once when nodes join it."""

from __future__ import annotations

import time
from typing import Any

from ray import tune
from ray.tune.search import ConcurrencyLimiter

from cifar_tune.errors import CifarTuneError, StorageError
from cifar_tune.plan.machine import Share, slots_on
from cifar_tune.record.results import PicklesAsNothing, Recorder
from cifar_tune.search.cluster import live_nodes, unseen
from cifar_tune.search.stop import StopRequest

LOOK_SECONDS = 5.0


class Joining(PicklesAsNothing, tune.Callback):
    """Sets how many trials run at once to what the nodes that are there can hold."""

    def __init__(
        self, recorder: Recorder, limiter: ConcurrencyLimiter, share: Share, stop: StopRequest
    ) -> None:
        """Follow the cluster that has been joined; `share.slots` is what it holds now."""
        self._recorder = recorder
        self._limiter = limiter
        self._share = share
        self._stop = stop
        self._slots = share.slots
        self._looked = time.monotonic()
        self.failure: CifarTuneError | None = None

    def on_step_end(self, **_: Any) -> None:
        """Look at the nodes; Ray's loop comes by many times a second."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        nodes = [unseen(node) for node in live_nodes()]
        slots = slots_on(self._recorder.results.plan.resources, nodes, self._share)
        # Without a single node left, one trial waits until there is one again.
        if max(1, slots) == self._slots:
            return
        self._slots = max(1, slots)
        self._limiter.set_max_concurrency(self._slots)
        self._limiter.searcher.set_max_concurrency(self._slots)  # BOHB's counts by itself
        try:
            self._recorder.write("slots_changed", slots=self._slots, nodes=len(nodes))
        except StorageError as error:
            self.failure = error
            self._stop.ask("the journal can't be written")
            raise
