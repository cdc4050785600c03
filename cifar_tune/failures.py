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

TRIES_AGAIN = {DATA: 0, DISK_FULL: 0, OUT_OF_MEMORY: 1, STORAGE: 2, LOST_NODE: 3}
"""How often a trial is tried again for each kind that has a rule of its own."""

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
