"""The one way to add to a search: the journal first, then the results, then who looks on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from cifar_tune.record.journal import Event, Journal
from cifar_tune.record.results import Results

log = logging.getLogger(__name__)

Observer = Callable[[Event, Results], None]


class PicklesAsNothing:
    """What lives in the driver alone: Ray pickles a Tuner with its parts, and nobody reads it."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Recorder(PicklesAsNothing):
    def __init__(self, journal: Journal, observers: Sequence[Observer] = ()) -> None:
        self.journal = journal
        self.observers = list(observers)
        records, folder = journal.records, journal.folder
        new = not records.events
        self.results = Results(folder=folder) if new else Results.from_records(folder, records)

    def write(self, event: str, **values: Any) -> None:
        """Append one event, as `Journal.append`; it is on the disk when this returns."""
        written = self.journal.append(event, **values)
        self.results.apply(written)
        for observer in list(self.observers):
            try:
                observer(written, self.results)
            except Exception as error:  # what is shown must not cost what is recorded
                self.observers.remove(observer)
                name = getattr(observer, "__qualname__", type(observer).__name__)
                log.warning("%s is off from here on: %s", name, error)
