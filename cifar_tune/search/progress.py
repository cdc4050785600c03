"""Progress of a search: one line an event, with the lecture's columns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from cifar_tune.journal import Event
from cifar_tune.results import Results, best_epoch

Show = Callable[[str], None]


class ProgressLines:
    """Shows each report, each end of a trial, and who leads."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._began = time.monotonic()
        self._leader: tuple[str, int] | None = None

    def __call__(self, event: Event, results: Results) -> None:
        """Observe one event of the journal."""
        if event["event"] == "trial_created":
            self._line(event, _values(event["values"]))
        elif event["event"] == "result":
            self._report(event, results)
        elif event["event"] == "trial_retried":
            self._line(event, f"{event.get('kind', 'code')}, is tried again: {event['reason']}")
        elif event["event"] == "checkpoints_lost":
            epochs = ", ".join(str(epoch) for epoch in event["epochs"])
            self._line(event, f"checkpoint of epoch {epochs} is damaged or gone")
        elif event["event"] == "trial_ended":
            kind = f" ({event['kind']})" if "kind" in event else ""
            reason = f": {event['reason']}" if event["reason"] else ""
            self._line(event, event["status"] + kind + reason)
        elif event["event"] == "exchanged":
            for clone in event["clones"]:
                values = _values(clone["values"])
                self._line(clone, f"takes over from {clone['source']}: {values}")

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
        if best is None:
            return ""
        leader = best.trial_id, best_epoch(best, results.plan.search)
        if leader == self._leader:
            return ""
        self._leader = leader
        return "  <- best so far" if best.trial_id == reporting else ""

    def _line(self, event: Mapping[str, Any], text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        self._show(f"{minutes:3d}:{seconds:02d}  {event['trial_id']}  {text}")


def _values(values: Mapping[str, object]) -> str:
    return "  ".join(f"{key}={_short(value)}" for key, value in values.items())


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
