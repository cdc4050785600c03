"""The live table of a search in a terminal: who leads, what runs, how long it will take."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections import deque
from typing import TextIO

from rich.console import Console, RenderableType
from rich.live import Live

from cifar_tune.plan.task import columns_of, in_words
from cifar_tune.record.journal import Event
from cifar_tune.record.recorder import PicklesAsNothing
from cifar_tune.record.results import Results
from cifar_tune.report.lines import Names, name_of, news
from cifar_tune.report.picture import picture
from cifar_tune.report.words import clock, measured

log = logging.getLogger(__name__)

SHORTEST_PAUSE = 0.25  # seconds between two pictures
TICK = 1.0  # seconds without news after which the clock goes on
SHARE = 0.005  # of a core, which drawing may take


class LiveTable(PicklesAsNothing):
    """Draws the search's state at the end of the terminal; what is told scrolls by above it.

    A thread of its own draws, so that neither a slow terminal nor an error there reaches the
    search. What others print meanwhile appears above the table, too. The cursor stays visible and
    the terminal in its normal mode: whoever ends this process at once leaves nothing to mend.
    """

    def __init__(self, stream: TextIO, *, title: str = "", names: Names = ()) -> None:
        """Draw to `stream`, a terminal, from the first event on; the rest as `progress_for`."""
        self._stream = stream
        self._title = title
        self._names = names
        self._stays = False
        self._began = time.monotonic()
        self._results: Results | None = None
        self._last: RenderableType = ""
        self._lines: deque[str] = deque()
        self._news = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, event: Event, results: Results) -> None:
        """Observe one event of the journal."""
        self._results = results
        self._stays = event["event"] == "stopped"
        for trial_id, text in news(event):
            at = clock(time.monotonic() - self._began)
            name = name_of(trial_id, results, self._names)
            self._lines.append(f"{at}  {name}  {text}{_figures(event, results)}")
        self._news.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._draw, name="live table", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Take the table away, unless the search was stopped; what was told stays."""
        self._closed.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)  # a terminal that takes nothing more must not hold us

    def _draw(self) -> None:
        try:
            self._draw_until_closed()
        except Exception as error:  # what is shown must not cost what is searched
            log.warning("the live table is off from here on: %s", error)

    def _draw_until_closed(self) -> None:
        console = Console(file=self._stream, force_terminal=True, highlight=False)
        live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stderr=sys.stderr.isatty(),  # not where it goes to a file
        )
        with live:
            console.show_cursor(True)
            while not self._closed.is_set():
                self._news.clear()
                began = time.thread_time()
                console.size = self._size()
                live.update(self._picture(console))
                self._tell(console)
                live.refresh()
                spent = time.thread_time() - began
                self._closed.wait(max(SHORTEST_PAUSE, spent / SHARE))
                self._news.wait(TICK)
            self._tell(console)
            if self._stays:
                live.transient = False
                live.update(self._picture(console), refresh=True)

    def _tell(self, console: Console) -> None:
        """What has happened, above the table; as it is, for the terminal to wrap."""
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if lines:
            console.print("\n".join(lines), soft_wrap=True, markup=False)

    def _size(self) -> tuple[int, int]:
        """Columns and rows of this terminal now; rich would ask the one of its standard input."""
        columns, rows = os.get_terminal_size(self._stream.fileno())
        return columns or 80, rows or 24

    def _picture(self, console: Console) -> RenderableType:
        if self._results is None:
            return ""
        elapsed = time.monotonic() - self._began
        with contextlib.suppress(RuntimeError):  # a trial was added just now: the next one has it
            self._last = picture(
                self._results, elapsed, title=self._title, names=self._names,
                width=console.width, height=console.height,
            )  # fmt: skip
        return self._last


def _figures(event: Event, results: Results) -> str:
    """How a trial that ended came out."""
    trial, name = results.trials.get(event.get("trial_id", "")), columns_of(results.plan)[0]
    curve = {} if trial is None else trial.curve(name)
    if event["event"] != "trial_ended" or not curve:
        return ""
    return f"  (epoch {max(curve)}, {in_words(name)} {measured(curve[max(curve)])})"
