"""Has the page written by a process of its own while a search runs, and at its end."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cifar_tune.record.journal import Event
from cifar_tune.record.recorder import PicklesAsNothing
from cifar_tune.record.results import Results

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "cifar_tune.tune", "report", "--quiet")
SECONDS_BETWEEN = 60.0
PATIENCE_SECONDS = 60.0  # a page takes 2 s; more where trials keep all cores busy
LOWEST_PRIORITY = 19  # nice's


class ReportWriter(PicklesAsNothing):
    """Keeps the page fresh while a search runs: an observer of its events.

    The driver only starts processes: to draw takes libraries and seconds that it doesn't have.
    """

    def __init__(
        self, command: Sequence[str] = COMMAND, seconds_between: float = SECONDS_BETWEEN
    ) -> None:
        """`command` is given the folder; it is run once in `seconds_between` at most."""
        self._command = command
        self._seconds_between = seconds_between
        self._next = time.monotonic()
        self._writing: Writing | None = None
        self._said = False

    def __call__(self, event: Event, results: Results) -> None:
        """Start writing if it is time and the last page is done."""
        if event["event"] not in ("result", "trial_ended") or time.monotonic() < self._next:
            return
        if self._writing is not None and not self._writing.is_done():
            return
        self.close()
        self._next = time.monotonic() + self._seconds_between
        try:
            self._writing = Writing(results.folder, self._command, priority=LOWEST_PRIORITY)
        except OSError as error:
            self._warn(str(error))

    def close(self, *, wait: bool = True) -> None:
        """Wait for the process that is writing, if one is; the last page is written after this.

        Without `wait` it is ended: where others keep all cores busy, one of the lowest priority may
        take a minute, which a signal does not leave.
        """
        writing, self._writing = self._writing, None
        if writing is not None and wait:
            self._warn(writing.outcome(PATIENCE_SECONDS))
        elif writing is not None:
            writing.end()

    def _warn(self, reason: str | None) -> None:
        if reason is not None and not self._said:
            self._said = True
            log.warning("report.html is not up to date: %s", reason)


def write_in_process(folder: Path, command: Sequence[str] = COMMAND) -> str | None:
    """Have the page written, and wait for it.

    Returns:
        Why there is no new page, in one line, or none if there is one.
    """
    try:
        return Writing(folder, command).outcome(PATIENCE_SECONDS)
    except OSError as error:
        return str(error)


class Writing:
    """A process that writes the page; the terminal's Ctrl-C does not reach it."""

    def __init__(self, folder: Path, command: Sequence[str], priority: int = 0) -> None:
        """Start it.

        Raises:
            OSError: there is no room for another process.
        """
        self._folder = folder
        # A file, for a pipe that nobody reads fills up and holds the process.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as it runs
        try:
            self._process = subprocess.Popen(
                [*command, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env=_environment(),
                start_new_session=True,
            )
        except BaseException:
            self._errors.close()
            raise
        if priority:
            with contextlib.suppress(OSError):  # it is done already
                os.setpriority(os.PRIO_PROCESS, self._process.pid, priority)

    def is_done(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def outcome(self, patience_seconds: float) -> str | None:
        """Wait for its end, and end it after that time; why it failed, in one line, or none."""
        with self._errors:
            try:
                code = self._process.wait(patience_seconds)
            except subprocess.TimeoutExpired:
                self._kill()
                return f"to write it took longer than {patience_seconds:.0f} s"
            except BaseException:  # a signal: nobody waits any more
                self._kill()
                raise
            if code == 0:
                return None
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            return lines[-1] if lines else f"the process that writes it ended with {code}"

    def end(self) -> None:
        """End it, unless it is done."""
        with self._errors:
            if not self.is_done():
                self._kill()

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()
        # what `write_atomically` had begun
        (self._folder / f".report.html.{self._process.pid}").unlink(missing_ok=True)


def _environment() -> dict[str, str]:
    """Ours without Ray's words, which are for processes of its own, and with one thread."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return {**kept, "OMP_NUM_THREADS": "1"}
