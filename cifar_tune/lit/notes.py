"""What a user should know before a search of a module of their own, and what changed since."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cifar_tune.errors import DataError
from cifar_tune.lit.config import LitPlan, arguments_of

if TYPE_CHECKING:
    from cifar_tune.lit.probe import Tried
    from cifar_tune.plan.task import Say

MAIN = "__main__:"  # of a notebook or a script: nobody else can import it


def notes_on(plan: LitPlan, tried: Tried) -> list[str]:
    """What the plan and two batches tell of the search to come."""
    notes, trainer = list[str](), arguments_of(plan.trainer)
    first = tried.logged[plan.search.metric]
    if not math.isfinite(first):
        notes.append(
            f"{plan.search.metric} was {first} after two batches; a trial whose metric is not"
            " finite ends as diverged"
        )
    every = trainer.get("check_val_every_n_epoch")
    if every not in (None, 1):
        notes.append(f"there is a validation, and a report, every {every} epochs")
    interval = trainer.get("val_check_interval")
    if interval not in (None, 1.0):
        notes.append("of several validations in an epoch the last is reported")
    if plan.finals.seeds and plan.finals.candidates > 1 and not tried.confirm:
        notes.append(
            "the finals compare on the validation data, on which the search chose as well; a"
            " confirm_dataloader in the data module would give them data of their own"
        )
    if not tried.has_test:
        notes.append("there is no test_dataloader: final models are scored on the validation data")
    return notes


def sources_of(classes: Mapping[str, type[Any]]) -> dict[str, str]:
    """A hash of the source of each class, by its name; empty where it can't be had."""
    told = {}
    for kind in classes.values():
        try:
            source = inspect.getsource(kind)
        except (OSError, TypeError):
            continue
        told[f"{kind.__module__}:{kind.__qualname__}"] = hashlib.sha256(source.encode()).hexdigest()
    return told


def check_sources(before: Mapping[str, str], now: Mapping[str, str], say: Say) -> None:
    """Say that a class changed since the search began.

    Raises:
        DataError: it is one of a notebook or a script, of which nothing else is left.
    """
    for name in before.keys() & now.keys():
        if before[name] == now[name]:
            continue
        if name.startswith(MAIN):
            raise DataError(
                f"{name} is {now[name][:12]}, and the search began with {before[name][:12]}: its"
                " source was changed, so that trials could not be compared; take the old source, or"
                " start a new search under another name"
            )
        say(f"The source of {name} was changed since the search began; trials run the new one.")
