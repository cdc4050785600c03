"""The live table of a search in a terminal: who leads, what runs, how long it will take."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from cifar_tune.plan.config import budget_seconds
from cifar_tune.plan.preflight import number_of_trials
from cifar_tune.plan.rungs import expected_epochs
from cifar_tune.record.journal import Event
from cifar_tune.record.recorder import PicklesAsNothing
from cifar_tune.record.results import Results
from cifar_tune.record.trials import ENDED, Trial
from cifar_tune.report.progress import clock, news, short

if TYPE_CHECKING:  # it is loaded where there is a terminal
    from rich.console import RenderableType
    from rich.table import Table

log = logging.getLogger(__name__)

SHORTEST_PAUSE = 0.25  # seconds between two pictures
TICK = 1.0  # seconds without news after which the clock goes on
SHARE = 0.005  # of a core, which drawing may take
FRAME_LINES = 12  # of the picture without its running trials
BAR_WIDTH = 10


class LiveTable(PicklesAsNothing):
    """Draws the search's state at the end of the terminal; what is told scrolls by above it.

    A thread of its own draws, so that neither a slow terminal nor an error there reaches the
    search. What others print meanwhile appears above the table, too. The cursor stays visible and
    the terminal in its normal mode: whoever ends this process at once leaves nothing to mend.
    """

    def __init__(self, stream: TextIO, *, title: str = "") -> None:
        """Draw to `stream`, a terminal, from the first event on.

        Args:
            stream: where to.
            title: stands above the table in place of the search's name.
        """
        self._stream = stream
        self._title = title
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
        for name, text in news(event):
            at = clock(time.monotonic() - self._began)
            self._lines.append(f"{at}  {name}  {text}{_figures(event, results)}")
        self._news.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._draw, name="live table", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Take the table away; what was told stays."""
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
        from rich.console import Console
        from rich.live import Live

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
                live.update(self._picture(console.width, console.height))
                self._tell(console)
                live.refresh()
                spent = time.thread_time() - began
                self._closed.wait(max(SHORTEST_PAUSE, spent / SHARE))
                self._news.wait(TICK)
            self._tell(console)

    def _tell(self, console: Any) -> None:
        """What has happened, above the table; as it is, for the terminal to wrap."""
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if lines:
            console.print("\n".join(lines), soft_wrap=True, markup=False)

    def _size(self) -> tuple[int, int]:
        """Columns and rows of this terminal now; rich would ask the one of its standard input."""
        columns, rows = os.get_terminal_size(self._stream.fileno())
        return columns or 80, rows or 24

    def _picture(self, width: int, height: int) -> RenderableType:
        if self._results is None:
            return ""
        elapsed = time.monotonic() - self._began
        with contextlib.suppress(RuntimeError):  # a trial was added just now: the next one has it
            self._last = picture(self._results, self._title, elapsed, width=width, height=height)
        return self._last


def _figures(event: Event, results: Results) -> str:
    """How a trial that ended came out."""
    trial = results.trials.get(event.get("trial_id", ""))
    if event["event"] != "trial_ended" or trial is None or not trial.results:
        return ""
    last = trial.results[trial.epochs]
    return f"  (epoch {trial.epochs}, accuracy {last['val_accuracy']:.4f})"


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """How much of a search is still to come; none where nothing is known yet.

    Attributes:
        epochs: that are expected in all.
        seconds: until the end.
    """

    epochs: int
    seconds: float | None


def forecast(results: Results, elapsed: float) -> Forecast:
    """What is to come, by the epochs that trials took so far and the rungs ahead.

    A trial is expected to take what ideal halving gives it, corrected by those that ended: as if
    as many trials as there are slots had taken exactly the ideal.

    Args:
        results: of the search.
        elapsed: seconds since this start began, for its time budget.
    """
    plan, trials = results.plan, list(results.trials.values())
    total = number_of_trials(plan)
    slots = max(1, results.starts[-1].slots if results.starts else 1)
    ended = [trial.epochs for trial in trials if trial.status in ENDED]
    ideal = expected_epochs(plan, total) / max(1, total)
    mean = (ideal * slots + sum(ended)) / (slots + len(ended))
    open_trials = [trial for trial in trials if trial.status not in ENDED]
    left = mean * (total - len(trials))
    left += sum(max(1.0, mean - trial.epochs) for trial in open_trials)
    done = sum(trial.epochs for trial in trials)
    busy = sum(trial.busy_seconds for trial in trials)
    seconds = None
    if busy > 0 and done > 0:
        at_once = max(1, min(slots, total - len(ended)))
        seconds = left * busy / done / at_once
    if seconds is not None and plan.search.time_budget is not None:
        seconds = min(seconds, max(0.0, budget_seconds(plan.search.time_budget) - elapsed))
    return Forecast(epochs=round(done + left), seconds=seconds)


def picture(
    results: Results, title: str, elapsed: float, *, width: int, height: int
) -> RenderableType:
    """The table as it stands.

    Args:
        results: of the search; it may change meanwhile.
        title: stands above, in place of the search's name.
        elapsed: seconds since this start began.
        width, height: of the terminal, in characters.
    """
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    parts: list[RenderableType] = list(_best(results))
    running = [trial for trial in list(results.trials.values()) if trial.status == "running"]
    room = max(1, height - FRAME_LINES - len(parts))
    if running:
        parts += [Text(), _running(results, running[:room], width)]
    if len(running) > room:
        parts.append(Text(f"and {len(running) - room} more running", style="dim"))
    lines = (_counts(results), *_time(results, elapsed))
    parts += [Text(), *(Text(line) for line in lines)]
    name = Text(title or results.folder.name, style="bold")
    return Panel(Group(*parts), title=name, title_align="left", border_style="dim", height=None)


def _best(results: Results) -> Iterator[RenderableType]:
    from rich.text import Text

    winner = results.winner()
    if winner is None:
        yield Text("no result yet", style="dim")
        return
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append("best  ", style="dim")
    line.append(f"{winner['val_accuracy']:.4f}", style="bold green")
    line.append(f"  loss {winner['val_loss']:.4f}  {winner['trial_id']}, epoch {winner['epoch']}")
    yield line
    yield Text(_config(winner["config"]), style="cyan")


def _running(results: Results, trials: list[Trial], width: int) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    wide = width >= 80
    table = Table(box=None, expand=wide, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("trial", no_wrap=True)
    table.add_column("", width=BAR_WIDTH)
    table.add_column("epoch", no_wrap=True, justify="right")
    table.add_column("accuracy", no_wrap=True, justify="right")
    if wide:
        table.add_column("configuration", ratio=1, no_wrap=True, overflow="ellipsis")
    end = results.plan.train.max_epochs
    for trial in trials:
        epoch = trial.epochs
        accuracy = f"{trial.results[epoch]['val_accuracy']:.4f}" if epoch else "-"
        bar = ProgressBar(
            total=end,
            completed=epoch,
            width=BAR_WIDTH,
            complete_style="cyan",
            finished_style="cyan",
        )
        cells: list[RenderableType] = [trial.trial_id, bar, f"{epoch}/{end}", accuracy]
        config = [Text(_config(trial.values), no_wrap=True, overflow="ellipsis")] if wide else []
        table.add_row(*cells, *config)
    return table


def _config(values: Mapping[str, object]) -> str:
    """Searched fields, without the names of their sections: those are not needed to tell them."""
    return "  ".join(
        f"{field.rpartition('.')[2]}={short(value)}" for field, value in values.items()
    )


def _counts(results: Results) -> str:
    counts, total = results.counts(), number_of_trials(results.plan)
    ended = sum(counts[status] for status in ENDED)
    named = [f"{counts[status]} {status}" for status in (*ENDED, "running") if counts[status]]
    waiting = counts["pending"] + counts["interrupted"]
    named += [f"{waiting} waiting"] if waiting else []
    return f"{ended} of {total} trials ended" + "".join(f" · {one}" for one in named)


def _time(results: Results, elapsed: float) -> tuple[str, str]:
    ahead = forecast(results, elapsed)
    left = (
        "time left unknown" if ahead.seconds is None else f"about {_duration(ahead.seconds)} left"
    )
    busy = f"slots {results.cost()['utilisation']:.0%} busy"
    epochs = f"{results.epochs_run} of about {max(ahead.epochs, results.epochs_run)} epochs"
    return f"{_duration(elapsed)} elapsed · {left}", f"{epochs} · {busy}"


def _duration(seconds: float) -> str:
    """To two units: 45 s, 3 min 5 s, 2 h 40 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes < 10 else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
