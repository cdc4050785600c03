"""Progress as lines: one for each event of a search that a person wants to know."""

from __future__ import annotations

import time
from collections.abc import Sequence

from cifar_tune.plan.task import Say, columns_of, in_words
from cifar_tune.record.journal import Event
from cifar_tune.record.ranking import best_epoch
from cifar_tune.record.results import Results
from cifar_tune.report.words import clock, measured, settings

Names = Sequence[str]
"""What trials are called, by their index, where they are trainings of another search's trials."""


class ProgressLines:
    """Shows each report, each end of a trial, and who leads."""

    def __init__(self, show: Say, *, names: Names = (), leads: bool = True) -> None:
        """Show lines; `leads`: mark who leads, which means nothing where nobody is chosen."""
        self._show = show
        self._names = names
        self._leads = leads
        self._began = time.monotonic()
        self._leader: tuple[str, int] | None = None

    def __call__(self, event: Event, results: Results) -> None:
        """Observe one event of the journal."""
        told = []
        if event["event"] == "trial_created":
            told = [(event["trial_id"], settings(event["values"]))]
        elif event["event"] == "result":
            told = [(event["trial_id"], self._report(event, results))]
        at = clock(time.monotonic() - self._began)
        for trial_id, text in told + news(event):
            self._show(f"{at}  {name_of(trial_id, results, self._names)}  {text}")

    def close(self) -> None:
        """Nothing is open."""

    def _report(self, event: Event, results: Results) -> str:
        """The plan's columns, each under its name."""
        metrics, plan = event["metrics"], results.plan
        columns = plan.tracking.columns or {
            "epoch": "epoch", **{name: in_words(name) for name in columns_of(plan)}
        }  # fmt: skip
        values = {"epoch": f"{metrics['epoch']:.0f}/{plan.train.max_epochs}"}
        values |= {n: measured(v) for n, v in metrics.items() if n != "epoch"}
        shown = [f"{word} {values[name]}" for name, word in columns.items() if name in values]
        return "  ".join(shown) + self._new_leader(results, event["trial_id"])

    def _new_leader(self, results: Results, reporting: str) -> str:
        best = results.best()
        if best is None or not self._leads:
            return ""
        leader = best.trial_id, best_epoch(best, results.plan.search)
        if leader == self._leader:
            return ""
        self._leader = leader
        return "  <- best so far" if best.trial_id == reporting else ""


def name_of(trial_id: str, results: Results, names: Names) -> str:
    """What a trial is called; one without a name is called by its id."""
    trial = results.trials.get(trial_id)
    return names[trial.index] if trial is not None and trial.index < len(names) else trial_id


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
            (one["trial_id"], f"takes over from {one['source']}: {settings(one['values'])}")
            for one in event["clones"]
        ]
    return []
