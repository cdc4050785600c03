"""Ends a whole search early: at a signal, when its time is up, or at a failure if asked."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from os import _exit as leave  # code of the user's own may be called meanwhile, under a guard
from types import FrameType
from typing import Any

from ray import tune

from cifar_tune.errors import CifarTuneError
from cifar_tune.process import STOPPING

ASKED_FOR = "the search is not finished, and its finals were asked for"
TIME_BUDGET = "time budget"
UNASKED = "Ray ended the search by itself, and nothing of ours had asked for that"
IMPATIENT = (signal.SIGINT, signal.SIGTERM)
TWICE = 1.0  # seconds within which a second SIGTERM is the first one's


class StopRequest(tune.Stopper):
    """Ends the whole search at a signal or when its time is up; trials stay resumable."""

    def __init__(self, budget_seconds: float | None, resume_command: str) -> None:
        self.reason: str | None = None
        self.signal: int | None = None
        self.error: CifarTuneError | None = None
        self._resume_command, self._asked_at = resume_command, 0.0
        self._deadline = None if budget_seconds is None else time.monotonic() + budget_seconds

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Single trials are the scheduler's business."""
        return False

    def stop_all(self) -> bool:
        """Whether the search ends now."""
        late = self._deadline is not None and time.monotonic() > self._deadline
        if late:
            self.ask(TIME_BUDGET)
        return self.reason is not None

    def ask(self, reason: str) -> None:
        """End the search, unless something else ends it already."""
        self.reason = self.reason or reason

    def fail(self, error: CifarTuneError) -> None:
        """End the search with an error, unless another ends it already."""
        self.error = self.error or error
        self.ask(str(error))

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Signals ask for the stop; a second SIGINT or SIGTERM leaves at once."""
        if not _in_main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in STOPPING}
        try:
            self.install()
            yield
        finally:
            for number, handler in before.items():
                if handler is not None:  # one that C set can't be set again
                    signal.signal(number, handler)

    def install(self) -> None:
        """Set the handlers; again after Ray set its own, for SIGTERM at its start and for SIGUSR1
        when Tune begins. A SIGHUP that is ignored stays so: that is what nohup does.
        """
        if _in_main_thread():
            for number in STOPPING:
                if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN):
                    signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None and number not in IMPATIENT:
            return  # a closed terminal and its shell send one each
        if number == self.signal == signal.SIGTERM and time.monotonic() < self._asked_at + TWICE:
            return  # `timeout` sends one to the program, and one to its group
        if self.signal in IMPATIENT:
            # The journal is on disk up to the last acknowledged report: nothing is lost.
            os.write(2, f"\nLeft at once. Go on with:\n{self._resume_command}\n".encode())
            leave(128 + number)
        self.signal, self._asked_at = number, time.monotonic()
        self.reason = signal.Signals(number).name


def _in_main_thread() -> bool:
    """Python takes signal handlers there alone; elsewhere signals are the caller's business."""
    return threading.current_thread() is threading.main_thread()
