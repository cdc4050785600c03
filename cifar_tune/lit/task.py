"""The lightning task: what the engine asks of a task, answered for modules of the user's own."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from cifar_tune.errors import PlanError
from cifar_tune.files import BEST
from cifar_tune.lit.config import LEARNING_RATES, SECTIONS, LitPlan, LitRun
from cifar_tune.lit.notes import (
    check_sections,
    check_sources,
    check_validations,
    notes_on,
    sources_of,
    validation_interval,
)
from cifar_tune.plan.objectives import Goal
from cifar_tune.plan.own_code import nearest
from cifar_tune.plan.points import draw_random
from cifar_tune.plan.section import put
from cifar_tune.plan.space import Value
from cifar_tune.plan.task import VALIDATION, Found

if TYPE_CHECKING:  # torch and Lightning cost seconds
    import numpy as np
    from lightning.pytorch import LightningDataModule, LightningModule
    from numpy.typing import NDArray

    from cifar_tune.lit.probe import Tried
    from cifar_tune.plan.task import Facts, Say

COUNTED = {"train": "training", "val": "validation"}


@dataclass(frozen=True)
class Part:
    """What trainings get: the classes that only this process can import, pickled by value.

    `token` is that of this start of a search; data is prepared once a node for each.
    """

    classes: tuple[tuple[str, type[Any]], ...] = ()
    token: str = ""


@dataclass(frozen=True, kw_only=True)
class LitData:
    """The user's data module, which opens its data itself, in each training."""

    fingerprint: str
    facts: Facts
    shared: Part
    logged: tuple[str, ...]

    def part(self, name: Literal["search", "final"]) -> Part:
        """Final models are trained on the same examples: validation stays what it is."""
        return self.shared

    def settled(self, plan: LitPlan) -> LitPlan:
        """The plan with the figures that tables show."""
        return _with_metrics(plan, self.logged)


class Lightning:
    """A LightningModule and a LightningDataModule of the user's own."""

    name = "lightning"
    Plan = LitPlan
    fixed = frozenset({f"{section}.class_path" for section in SECTIONS})
    free: frozenset[str] = frozenset()
    private: frozenset[str] = frozenset()
    mutable = LEARNING_RATES
    main_loss = "val_loss"
    keeps_best = True
    modules = ("cifar_tune.lit.training",)
    # What one optimizer steps, the loss of another may not have used.
    ddp: Mapping[str, Any] = MappingProxyType({"find_unused_parameters": True})

    def check(self, plan: LitPlan, *, workers: int) -> Sequence[str]:
        """Find the classes, and check every argument that can be drawn."""
        from cifar_tune.lit.classes import check_arguments

        classes = _classes(plan)
        check_sections(plan)
        check_validations(plan)
        first = _first_run(plan)
        check_arguments(first, classes)
        for dimension in plan.search.parsed_space:
            for value in dimension.values or dimension.ends:
                check_arguments(_with_value(first, dimension.field, value), classes)
        if workers > 1 and any(kind.__module__ == "__main__" for kind in classes.values()):
            raise PlanError(
                f"{workers} workers share a trial, and the module is defined in a notebook or a"
                " script, where other processes can't import it; put it into a file of its own"
            )
        return []

    def find(self, plan: LitPlan, *, recorded: Facts | None = None) -> Found:
        """Try the module on two batches, and say what it logs."""
        tried = _tried(plan)
        source = _source(plan)
        counts = " and ".join(
            f"{getattr(tried, key):,} {word}"
            for key, word in COUNTED.items()
            if getattr(tried, key)
        )
        sentences = [f"{source}: {counts or 'no known number of'} examples"]
        names = ", ".join(tried.logged)
        sentences.append(
            f"two batches of training and validation took {tried.seconds:.1f} s; a validation of"
            f" {plan.model.class_path} logs {names}"
        )
        return Found([*sentences, *notes_on(plan, tried)], _with_metrics(plan, tuple(tried.logged)))

    def comparable(self, plan: LitPlan, epoch: int) -> int:
        """At a validation."""
        every = validation_interval(plan)
        return every * math.ceil(epoch / every)

    def holds_out(self, plan: LitPlan) -> bool:
        """Candidates are compared on `confirm_dataloader`, else on the validation data."""
        return True

    def open(self, plan: LitPlan, say: Say, *, recorded: Facts | None = None) -> LitData:
        """Nothing is opened here but for two batches; what changed since is told."""
        tried, sources = _tried(plan), sources_of(_classes(plan))
        source = _source(plan)
        counts = {"train": tried.train, "val": tried.val, "confirm": tried.confirm, "test": 0}
        told = json.dumps([source, counts], sort_keys=True)
        fingerprint = hashlib.sha256(told.encode()).hexdigest()
        notes = notes_on(plan, tried)
        facts = {
            "kind": "lightning", "source": source, "fingerprint": fingerprint, "notes": notes,
            **counts, "final": tried.train, "sources": sources, "has_test": tried.has_test,
            "model_bytes": tried.model_bytes,
        }  # fmt: skip
        if recorded is not None:
            check_sources(recorded.get("sources", {}), sources, say)
        return LitData(
            fingerprint=fingerprint,
            facts=facts,
            shared=replace(_part(plan), token=uuid4().hex),
            logged=tuple(tried.logged),
        )

    def columns(self, plan: LitPlan) -> Sequence[str]:
        """The metric, and what else a validation logs."""
        return list(dict.fromkeys([plan.search.metric, *plan.search.metrics]))

    def caveat(self, facts: Facts) -> str:
        """That a score is of the validation data, where there is no test data."""
        return "" if facts.get("has_test", True) else "on the VALIDATION data, for want of a test"

    def tags(self, run: LitRun) -> list[str]:
        """The module's class."""
        return [str(run.model.class_path).rpartition(":")[2]]

    def trainer_options(self, run: LitRun, folder: Path) -> dict[str, Any]:
        """The section `trainer`, and what stands around a training of the user's own."""
        from cifar_tune.lit.training import trainer_options

        return trainer_options(run, folder)

    def build(
        self, run: LitRun, part: Part, *, fresh: bool
    ) -> tuple[LightningModule, LightningDataModule | None]:
        """The user's module and data module, with this run's arguments."""
        from cifar_tune.lit.training import build

        return build(run, dict(part.classes), part.token)

    def goal(self, plan: LitPlan) -> Goal:
        """The plan's metric, by its name without what says that it is of a validation."""
        metric = plan.search.metric
        return Goal(VALIDATION.sub("", metric), plan.search.mode)

    def held_out(
        self, data: LitData, split: Literal["confirm", "test"], plan: LitPlan
    ) -> tuple[str, Part]:
        """The name of the loader, which is opened when a model is scored."""
        there = data.facts["confirm" if split == "confirm" else "has_test"]
        return (f"{split}_dataloader" if there else "val_dataloader"), replace(
            data.shared, token=""
        )

    def score(
        self, checkpoint: Path, examples: tuple[str, Part], plan: LitPlan
    ) -> NDArray[np.generic]:
        """The metric as the module's own validation logs it over that loader."""
        from cifar_tune.lit.models import score

        return score(checkpoint, *examples, plan.search.metric, gpu=plan.on_gpu)

    def checkpoint_bytes(self, plan: LitPlan) -> int:
        """Weights, and twice as much of the optimizer."""
        return 3 * _tried(plan).model_bytes

    def use(self, folder: Path) -> str:
        """The lines of Python that load it."""
        return f"cat {shlex.quote(str(folder / BEST / 'README.md'))}"

    def write_winner(self, results: Any, data: LitData, say: Say, *, whole: bool) -> Path | None:
        """The winner's checkpoint, its arguments, and how to load it."""
        from cifar_tune.lit.models import write_winner

        return write_winner(results)

    def hand_over(
        self, results: Any, data: LitData, model: Mapping[str, Any], judged: Path | None, say: Say
    ) -> bool:
        """A final model in the same form."""
        from cifar_tune.lit.models import hand_over

        return hand_over(results, model, say)


LIGHTNING = Lightning()


def _classes(plan: LitPlan) -> dict[str, type[Any]]:
    """The user's classes by their section.

    Raises:
        PlanError: one is not there, or is of another kind.
    """
    from cifar_tune.lit.classes import find_class

    if plan.model.class_path is None:
        raise PlanError(
            "model.class_path is not given; name your LightningModule: --module"
            " my_package.my_module:LitModel, or --lightning-config FILE"
        )
    names = {"model": plan.model.class_path, "data": plan.data.class_path}
    return {section: find_class(section, name) for section, name in names.items() if name}


def _part(plan: LitPlan) -> Part:
    return Part(tuple(one for one in _classes(plan).items() if one[1].__module__ == "__main__"))


def _first_run(plan: LitPlan) -> LitRun:
    """A run that the search may have, as a random search would draw it first."""
    values = draw_random(plan.search.parsed_space, plan.seed, 0)
    run: LitRun = plan.with_values(values, seed=plan.seed)
    return run


def _with_value(run: LitRun, field: str, value: Value) -> LitRun:
    """A run with another value in one field."""
    values = run.model_dump()
    put(values, field, value)
    return LitRun.model_validate(values)


def _tried(plan: LitPlan) -> Tried:
    from cifar_tune.lit.probe import check_metric, try_out

    tried = try_out(_first_run(plan), _part(plan))
    check_metric(tried, plan.search.metric, str(plan.model.class_path), _source(plan))
    asked = {"metrics": plan.search.metrics, "objectives": plan.search.logged[1:]}
    for field, name in ((field, name) for field, names in asked.items() for name in names):
        if name not in tried.logged:
            raise PlanError(
                f"search.{field} has {name!r}, which no validation logs; it logs"
                f" {', '.join(tried.logged)}{nearest(name, tried.logged)}"
            )
    return tried


def _source(plan: LitPlan) -> str:
    return str(plan.data.class_path or plan.model.class_path)


def _with_metrics(plan: LitPlan, logged: Sequence[str]) -> LitPlan:
    """The plan with the figures that a validation logs, unless it names some."""
    if plan.search.metrics:
        return plan
    search = plan.search.model_copy(update={"metrics": list(logged)})
    return plan.model_copy(update={"search": search})
