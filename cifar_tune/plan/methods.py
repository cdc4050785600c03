"""Which searcher and scheduler a search gets that leaves them open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STARTUP_TRIALS = 10  # that tpe and gp draw at random before they learn: Optuna's default
MANY_TRIALS = 32
# Searchers that one scheduler suits alone.
_SCHEDULERS = {"gp": "none", "cmaes": "none", "bohb": "hyperband"}


def settled_methods(
    searcher: str, scheduler: str, num_samples: int, space: Mapping[str, Any]
) -> dict[str, str]:
    """Searcher and scheduler, where they are `auto` by what recorded trainings say.

    Where trials wait at their rungs (`promote`), no early arrival passes for free: from 32 trials
    on the winner is as good for less, with fewer it may be worse. tpe learns most from trials that
    ran to their end: on tables of other people's trainings it was ahead of random search in four of
    five, and where trials are stopped early in none clearly (docs/figures.md). Known good values
    ask for priorband, which alone takes notice of them; `grid` entries are taken in turn by random.
    """
    entries = [entry for entry in space.values() if isinstance(entry, Mapping)]
    if searcher == "auto":
        if any("prior" in entry for entry in entries) and scheduler != "pbt":
            searcher = "priorband"
        elif (
            scheduler == "none"
            and num_samples > STARTUP_TRIALS
            and not any("grid" in entry for entry in entries)
        ):
            searcher = "tpe"
        else:
            searcher = "random"
    if scheduler == "auto":
        many = "promote" if num_samples >= MANY_TRIALS else "asha"
        scheduler = _SCHEDULERS.get(searcher, many)
    return {"searcher": searcher, "scheduler": scheduler}
