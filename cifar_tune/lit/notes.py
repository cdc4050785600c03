"""What a user should know before a search of a module of their own, and what changed since."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cifar_tune.errors import DataError, PlanError
from cifar_tune.lit.config import LitPlan, arguments_of, searched

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
    if plan.finals.seeds and plan.finals.compared > 1 and not tried.confirm:
        notes.append(
            "the finals compare on the validation data, on which the search chose as well; a"
            " confirm_dataloader in the data module would give them data of their own"
        )
    if not tried.has_test:
        notes.append("there is no test_dataloader: final models are scored on the validation data")
    return notes


def check_sections(plan: LitPlan) -> None:
    """A PlanError if arguments are given, or searched, of a class that is not named."""
    named = {
        "data": plan.data.class_path,
        "optimizer": plan.optimizer.class_path,
        "lr_scheduler": plan.lr_scheduler.class_path and plan.optimizer.class_path,
    }
    for section, name in named.items():
        given = [*arguments_of(getattr(plan, section)), *searched(plan, section)]
        given += ["class_path"] if getattr(plan, section).class_path and not name else []
        if given and not name:
            other = "optimizer" if plan.lr_scheduler.class_path else section
            raise PlanError(
                f"{section}.{given[0].removeprefix(f'{section}.')} is given, and {other}.class_path"
                " names no class, so that nothing would come of it; name one, or leave it out"
            )


def validation_interval(plan: LitPlan) -> int:
    """The epochs from one validation to the next; 1 where the plan has no sensible number."""
    every = arguments_of(plan.trainer).get("check_val_every_n_epoch")
    return every if isinstance(every, int) and every > 0 else 1


def check_validations(plan: LitPlan) -> None:
    """A PlanError if validations come so seldom that trials could not be judged."""
    trainer, epochs, search = arguments_of(plan.trainer), plan.train.max_epochs, plan.search
    every = trainer.get("check_val_every_n_epoch", 1)
    if every is None or trainer.get("limit_val_batches") == 0:
        name = "check_val_every_n_epoch" if every is None else "limit_val_batches"
        raise PlanError(
            f"trainer.{name} is {trainer[name]!r}; trials are judged by a validation at the end of"
            " an epoch: leave it out"
        )
    if isinstance(every, int) and every > epochs:
        raise PlanError(
            f"trainer.check_val_every_n_epoch is {every}, above train.max_epochs, which is"
            f" {epochs}: no trial would ever be judged; lower it"
        )
    steps = {"pbt": "perturbation_interval", "halving": "grace_period", "promote": "grace_period"}
    field = steps.get(search.scheduler)
    step = getattr(search, field) if field else "auto"
    if isinstance(every, int) and step != "auto" and step % every:
        raise PlanError(
            f"search.{field} is {step}, and there is a validation every {every}"
            f" epochs, by which {search.scheduler} compares trials; give a multiple of {every}"
        )


def sources_of(classes: Mapping[str, type[Any]]) -> dict[str, str]:
    """A hash of the source of each class, by its name."""
    told = {}
    for kind in classes.values():
        source = _source_of(kind)
        told[f"{kind.__module__}:{kind.__qualname__}"] = hashlib.sha256(source.encode()).hexdigest()
    return told


def _source_of(kind: type[Any]) -> str:
    """Of a notebook's class only its methods know their source; else what they do."""
    with contextlib.suppress(OSError, TypeError):
        return inspect.getsource(kind)
    told = []
    for name, method in sorted(vars(kind).items()):
        if inspect.isfunction(method):
            try:
                told.append(inspect.getsource(method))
            except (OSError, TypeError):
                told.append(f"{name} {method.__code__.co_code.hex()} {method.__code__.co_names}")
    return "\n".join(told)


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
