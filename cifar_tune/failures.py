"""Why trials fail: a name for each kind of crash, and how often each is tried again."""

from __future__ import annotations

import re

from cifar_tune.config import SearchConfig

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

MOST_LOST_NODES = 3
MOST_STORAGE_FAULTS = 2

# What names the kind in Ray's text of an error, the first that fits. Python's, torch's (CPU and
# CUDA) and Ray's own words for memory; those of the operating system for its disks; then the ways
# in which Ray tells that a worker is gone, with its node or alone; then our data errors.
SIGNS = (
    (OUT_OF_MEMORY, r"MemoryError|out of memory|(can't|cannot) allocate memory|low on memory"),
    (OUT_OF_MEMORY, r"bad_alloc|ALLOC_FAILED"),
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

    Out of memory: once more, alone. Damaged data stay damaged: never. A node that is lost is not
    the trial's fault: `MOST_LOST_NODES` times. Storage that does not answer may come back:
    `MOST_STORAGE_FAULTS` times. A full disk stays full. All else: `search.max_failures` times.
    """
    if failures[-1] == DISK_FULL:
        return False
    if failures[-1] == STORAGE:
        return failures.count(STORAGE) <= MOST_STORAGE_FAULTS
    if failures[-1] == DATA:
        return False
    if failures[-1] == LOST_NODE:
        return failures.count(LOST_NODE) <= MOST_LOST_NODES
    if failures[-1] == OUT_OF_MEMORY:
        return failures.count(OUT_OF_MEMORY) <= 1
    own = [kind for kind in failures if kind not in (LOST_NODE, OUT_OF_MEMORY, STORAGE)]
    return len(own) <= search.max_failures


def runs_alone(failures: list[str]) -> bool:
    """Whether a trial that is tried again gets the machine for itself."""
    return OUT_OF_MEMORY in failures[-1:]
