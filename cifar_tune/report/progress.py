"""Progress of a search: a line an event with the lecture's columns, or a live table, or nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TextIO

from cifar_tune.record.journal import Event
from cifar_tune.record.ranking import best_epoch
from cifar_tune.record.results import Results

Show = Callable[[str], None]


class Progress(Protocol):
    """Shows a search while it runs; an observer of its journal."""

    def __call__(self, event: Event, results: Results) -> None:
        """Observe one event of the journal."""

    def close(self) -> None:
        """The search is over, or ends with an error: leave the terminal as it was."""


def progress_for(say: Show, stream: TextIO, *, quiet: bool = False, title: str = "") -> Progress:
    """A live table where `stream` is a terminal, else lines through `say`; with `quiet` nothing.

    Args:
        say: shows a line.
        stream: where `say` writes.
        quiet: whether only warnings and the outcome are wanted, which come from elsewhere.
        title: what the table says above itself in place of the search's name.
    """
    if quiet:
        return Silence()
    # A terminal that can't move its cursor calls itself dumb.
    if stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", ""):
        from cifar_tune.report.live import LiveTable

        return LiveTable(stream, title=title)
    return ProgressLines(say, leads=not title)


class Silence:
    """Shows nothing."""

    def __call__(self, event: Event, results: Results) -> None:
        """Observe one event of the journal."""

    def close(self) -> None:
        """Nothing is open."""


class ProgressLines:
    """Shows each report, each end of a trial, and who leads."""

    def __init__(self, show: Show, *, leads: bool = True) -> None:
        """Show lines; `leads`: mark who leads, which means nothing where nobody is chosen."""
        self._show = show
        self._leads = leads
        self._began = time.monotonic()
        self._leader: tuple[str, int] | None = None

    def __call__(self, event: Event, results: Results) -> None:
        """Observe one event of the journal."""
        if event["event"] == "trial_created":
            self._line(event, values_line(event["values"]))
        elif event["event"] == "result":
            self._report(event, results)
        for trial_id, text in news(event):
            self._line({"trial_id": trial_id}, text)

    def close(self) -> None:
        """Nothing is open."""

    def _report(self, event: Event, results: Results) -> None:
        metrics = event["metrics"]
        lead = self._new_leader(results, event["trial_id"])
        self._line(
            event,
            f"training_iteration {metrics['epoch']}/{results.plan.train.max_epochs}"
            f"  loss {metrics['val_loss']:.4f}  accuracy {metrics['val_accuracy']:.4f}{lead}",
        )

    def _new_leader(self, results: Results, reporting: str) -> str:
        best = results.best()
        if best is None or not self._leads:
            return ""
        leader = best.trial_id, best_epoch(best, results.plan.search)
        if leader == self._leader:
            return ""
        self._leader = leader
        return "  <- best so far" if best.trial_id == reporting else ""

    def _line(self, event: Mapping[str, Any], text: str) -> None:
        self._show(f"{clock(time.monotonic() - self._began)}  {event['trial_id']}  {text}")


def news(event: Event) -> list[tuple[str, str]]:
    """What an event says about trials besides their creation and their reports: id and words."""
    name = event.get("trial_id", "")
    if event["event"] == "trial_retried":
        return [(name, f"{event.get('kind', 'code')}, is tried again: {event['reason']}")]
    if event["event"] == "checkpoints_lost":
        epochs = ", ".join(str(epoch) for epoch in event["epochs"])
        return [(name, f"checkpoint of epoch {epochs} is damaged or gone")]
    if event["event"] == "trial_ended":
        kind = f" ({event['kind']})" if "kind" in event else ""
        reason = f": {event['reason']}" if event["reason"] else ""
        return [(name, event["status"] + kind + reason)]
    if event["event"] == "slots_changed":
        nodes, slots = event["nodes"], event["slots"]
        return [("cluster", f"nodes: {nodes}; trials at once from now on: {slots}")]
    if event["event"] == "exchanged":
        return [
            (
                clone["trial_id"],
                f"takes over from {clone['source']}: {values_line(clone['values'])}",
            )
            for clone in event["clones"]
        ]
    return []


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:3d}:{rest:02d}"


def values_line(values: Mapping[str, object]) -> str:
    """Searched fields in a line, fractions to three digits."""
    return "  ".join(f"{key}={short(value)}" for key, value in values.items())


def short(value: object) -> str:
    """A value in a few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
