"""What every way to search has in common: it suggests configurations and may learn from results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from cifar_tune.plan.space import Value
from cifar_tune.record.journal import Event
from cifar_tune.record.results import Results


class NotNow(Exception):  # noqa: N818 - a state, like StopIteration, not an error
    """There are more configurations, but none before another trial has ended."""


class Suggester(Protocol):
    """Suggests the configuration of each new trial.

    When a search goes on, a fresh suggester is told all recorded events first, in their order;
    then, and in a new search from the start, each event as it is written. So it needs no state of
    its own on the disk.
    """

    def suggest(self, index: int, fixed: Mapping[str, Value]) -> dict[str, Value] | None:
        """The values of trial `index` (from 0), or none if there are no more to be had.

        `fixed` holds values that are settled already (a known good point); the rest is suggested.
        The event `trial_created` with these values follows before the next call.

        Raises:
            NotNow: ask again when a trial has ended.
        """

    def observe(self, event: Event, results: Results) -> None:
        """Learn from one event; `results` has taken it in already."""
