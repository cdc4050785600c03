"""One trial of a search and one start of its driver, as the journal tells them."""

from __future__ import annotations

from dataclasses import dataclass, field

from cifar_tune.spaces import Value

STATUSES = ("pending", "running", "completed", "stopped", "diverged", "failed", "interrupted")
ENDED = ("completed", "stopped", "diverged", "failed")
UNFINISHED = tuple(status for status in STATUSES if status not in ENDED)


@dataclass(kw_only=True)
class Trial:
    """One trial: its configuration, its results by epoch, and the checkpoints it still has.

    Attributes:
        values: the searched fields; in a population those that hold now.
        earlier_values: what held before each exchange, by the exchange's epoch.
        inherited: epoch and path of the checkpoint taken over from another trial, if that is what
            it goes on from.
        failures: kinds of its crashes, the newest last; a user's retry forgets them.
        completed_epochs: where it was complete before the search was extended; 0 if it was not.
    """

    trial_id: str
    index: int
    seed: int
    values: dict[str, Value]
    created: float
    status: str = "pending"
    reason: str = ""
    results: dict[int, dict[str, float]] = field(default_factory=dict)
    checkpoints: dict[int, str] = field(default_factory=dict)
    earlier_values: dict[int, dict[str, Value]] = field(default_factory=dict)
    inherited: tuple[int, str] | None = None
    failures: list[str] = field(default_factory=list)
    completed_epochs: int = 0
    ended: float | None = None
    spans: dict[float, float] = field(default_factory=dict)
    """First step to last report (worker's clock, Unix seconds), one entry an attempt."""

    @property
    def epochs(self) -> int:
        """The newest epoch reported, 0 before the first."""
        return max(self.results, default=0)

    def values_at(self, epoch: int) -> dict[str, Value]:
        """The searched fields that held in an epoch."""
        for exchange, values in sorted(self.earlier_values.items()):
            if epoch <= exchange:
                return values
        return self.values

    @property
    def judged(self) -> list[int]:
        """The epochs that it may win by: of one that failed or diverged only completed ones."""
        if self.status in ("failed", "diverged"):
            return [epoch for epoch in self.results if epoch <= self.completed_epochs]
        return list(self.results)

    @property
    def usable(self) -> bool:
        """Whether it may be the winner."""
        return bool(self.judged)

    @property
    def busy_seconds(self) -> float:
        """From first step to last report, summed over attempts."""
        return sum(last - first for first, last in self.spans.items())


@dataclass(kw_only=True)
class Start:
    """One start of the driver on this search.

    Attributes:
        slots: trials that fit at once, now.
        storage: where its trials' checkpoints lie: a URI, or a path from the results folder.
        earlier_slots: what held before each change of the cluster, by the change's time.
    """

    number: int
    slots: int
    storage: str
    began: float | None = None
    ended: float | None = None
    earlier_slots: dict[float, int] = field(default_factory=dict)

    @property
    def wall_seconds(self) -> float:
        """From the first trial created to the last report or end of a trial in this start."""
        return 0.0 if self.began is None or self.ended is None else self.ended - self.began

    @property
    def offered_seconds(self) -> float:
        """Seconds of all its slots."""
        if self.began is None or self.ended is None:
            return 0.0
        offered, since = 0.0, self.began
        for until, slots in self.earlier_slots.items():
            until = min(max(until, since), self.ended)  # noqa: PLW2901
            offered, since = offered + (until - since) * slots, until
        return offered + (self.ended - since) * self.slots

    @property
    def most_slots(self) -> int:
        """The most that it ever had."""
        return max([self.slots, *self.earlier_slots.values()])
