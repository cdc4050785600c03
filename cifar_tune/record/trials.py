"""One trial of a search and one start of its driver, as the journal tells them; why trials fail."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from cifar_tune.plan.config import SearchConfig
from cifar_tune.plan.space import Value

STATUSES = ("pending", "running", "completed", "stopped", "diverged", "failed", "interrupted")
ENDED = ("completed", "stopped", "diverged", "failed")
UNFINISHED = tuple(status for status in STATUSES if status not in ENDED)


def id_of(index: int) -> str:
    """The id of trial `index` (from 0): t0001 for the first."""
    return f"t{index + 1:04d}"


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
        paused: whether it waits for others since its newest report.
        measured: figures that were taken after the search, by name.
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
    paused: bool = False
    measured: dict[str, float] = field(default_factory=dict)
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

    def curve(self, metric: str) -> dict[int, float]:
        """A metric by epoch, ascending; without the epoch in which the trial diverged."""
        steps = sorted(self.results.items())
        return {epoch: metrics[metric] for epoch, metrics in steps if metric in metrics}

    @property
    def judged(self) -> list[int]:
        """The epochs that it may win by: of one that failed or diverged only completed ones."""
        if self.status in ("failed", "diverged"):
            return [epoch for epoch in self.results if epoch <= self.completed_epochs]
        return list(self.results)

    @property
    def usable(self) -> bool:
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
        command: as it was given; empty where that is not known.
    """

    number: int
    slots: int
    storage: str
    began: float | None = None
    ended: float | None = None
    earlier_slots: dict[float, int] = field(default_factory=dict)
    command: tuple[str, ...] = ()

    def reach(self, time: float) -> None:
        """Let its wall clock, which begins at the first such event, run until then."""
        self.began = time if self.began is None else self.began
        self.ended = time

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
        return max([self.slots, *self.earlier_slots.values()])


OUT_OF_MEMORY = "out of memory"
DATA = "data"
CODE = "code"
LOST_PROCESS = "lost process"
LOST_NODE = "lost node"
HUNG = "hung"
DISK_FULL = "disk full"
STORAGE = "storage"
KINDS = (OUT_OF_MEMORY, DATA, CODE, LOST_PROCESS, LOST_NODE, HUNG, DISK_FULL, STORAGE)
"""Kinds of crashes. A diverged trial did not crash: that is a status of its own."""

TRIES_AGAIN = {DATA: 0, DISK_FULL: 0, OUT_OF_MEMORY: 1, STORAGE: 2, LOST_NODE: 3}
"""How often a trial is tried again for each kind that has a rule of its own."""

# What names the kind in Ray's text of an error, the first that fits. Python's, torch's (CPU and
# CUDA) and Ray's own words for memory; those of the operating system for its disks; then the ways
# in which Ray tells that a worker is gone, with its node or alone; then our data errors.
SIGNS = (
    (OUT_OF_MEMORY, r"MemoryError|out of memory|(can't|cannot) allocate memory|low on memory"),
    (OUT_OF_MEMORY, r"bad_alloc|ALLOC_FAILED|ALLOCATION_FAILED"),
    # cuBLAS and cuDNN, where a neighbour on the GPU left no room for what they keep themselves.
    (OUT_OF_MEMORY, r"CUBLAS_STATUS_NOT_INITIALIZED.*cublasCreate|unable to find an engine"),
    (DISK_FULL, r"No space left on device|quota exceeded|PytorchStreamWriter failed writing"),
    (STORAGE, r"Read-only file system|Stale file handle|Input/output error"),
    (STORAGE, r"Unable to set up cluster storage"),  # Ray, before it copies a checkpoint
    (LOST_NODE, r"node has (died|crashed)|node was terminated|NodeDiedError|node .* marked dead"),
    (LOST_NODE, r"owner has died"),  # this machine's own Ray was killed
    (LOST_PROCESS, r"ActorDiedError|RayActorError|ActorUnavailableError|worker .*(died|crashed)"),
    (LOST_PROCESS, r"actor .* is unavailable"),
    (DATA, r"\bDataError\b"),
)  # fmt: skip


def kind_of(error: str) -> str:
    """The kind of a crash, by the text of its error: `Type: message`, or Ray's own words."""
    # Indented are the lines of code in a traceback, which may name any error.
    told = "\n".join(line for line in error.splitlines() if line and not line[0].isspace())
    return next((kind for kind, sign in SIGNS if re.search(sign, told, re.IGNORECASE)), CODE)


def may_retry(failures: list[str], search: SearchConfig) -> bool:
    """Whether a trial with these crashes, the newest last, is tried again.

    As often as `TRIES_AGAIN` says: damaged data stay damaged, and a full disk stays full; out of
    memory it runs alone; storage may come back; a lost node is not the trial's fault. All else
    together: `search.max_failures` times.
    """
    newest = failures[-1]
    if newest in TRIES_AGAIN:
        return failures.count(newest) <= TRIES_AGAIN[newest]
    own = [kind for kind in failures if not TRIES_AGAIN.get(kind)]
    return len(own) <= search.max_failures


def runs_alone(failures: list[str]) -> bool:
    """Whether a trial that is tried again gets the machine for itself."""
    return OUT_OF_MEMORY in failures[-1:]
