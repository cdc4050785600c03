"""Tells the events of a search to its results and whoever looks on, without a journal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cifar_tune.plan.config import Plan
from cifar_tune.record.journal import Event
from cifar_tune.record.recorder import Observer
from cifar_tune.record.results import Results


class InMemory:
    """Takes the place of a `Recorder`; keeps the events for those who come later."""

    def __init__(self, plan: Plan, *observers: Observer) -> None:
        self.results = Results(folder=Path(), plan=plan)
        self.events: list[Event] = []
        self.observers = observers

    def write(self, event: str, **values: Any) -> None:
        self.events.append({"seq": len(self.events) + 1, "event": event, "time": 0.0, **values})
        self.results.apply(self.events[-1])
        for observer in self.observers:
            observer(self.events[-1], self.results)
