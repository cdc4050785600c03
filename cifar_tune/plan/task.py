"""The task seam: what the engine asks of whatever it tunes, and where a plan's task is found."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from cifar_tune.errors import PlanError
from cifar_tune.plan.config import Plan, RunConfig
from cifar_tune.plan.objectives import COSTS, PARAMETERS
from cifar_tune.plan.own_code import OwnCode, nearest

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule

# Found by name, as a user's own is, so that nothing in the engine imports them.
TASKS = {
    "vision": "cifar_tune.vision.task:VISION",
    "lightning": "cifar_tune.lit.task:LIGHTNING",
}
VALIDATION = re.compile(r"^val(id|idation)?[_/]")  # before a metric's own name

Say = Callable[[str], None]
"""Shows a line to whoever gave the command."""
Facts = Mapping[str, Any]
"""What a dataset is, in plain values, as the journal keeps it."""


class Found(NamedTuple):
    """What is known of the data before it is opened: in sentences, the first of which says what it
    is, and a plan in which what depends on it is settled."""

    sentences: Sequence[str]
    plan: Any


class Data(Protocol):
    """A dataset that is open.

    Attributes:
        fingerprint: equal for equal content, wherever it came from.
        facts: plain values for the journal: at least `kind`, `source`, `fingerprint`, `notes`, and
            the number of examples as `train`, `val`, `confirm`, `test`; `final` is that of a final
            training, where it is not the sum of the first three.
    """

    fingerprint: str
    facts: Facts

    def part(self, name: Literal["search", "final"]) -> Any:
        """What trainings get: all that a search may see, or all but the test split.

        It is pickled once and shared by the trainings of a node; no road leads from it to what is
        held out.
        """

    def settled(self, plan: Any) -> Any:
        """The plan with values for what depends on the data, so that a resume has the same."""


class Task(Protocol):
    """What is tuned: its sections of the plan, its data, its trainings.

    Importing a task costs neither torch nor Ray. `check`, `find` and `open` get settled plans.

    Attributes:
        name: as a plan has it.
        Plan: the class of its plans, which adds the task's sections; each of their fields may be
            searched save the `fixed` ones. Sections of ours may have the task's own defaults.
        fixed: fields that would make trials incomparable, or that nothing depends on.
        free: fields that may differ when a search goes on: they change no figure.
        private: fields that no tracker is told, since they may say whose machine it is.
        mutable: fields that a population may change on the way.
        main_loss: tells equal trials apart, the lower the better.
        keeps_best: whether a final model is that of its best epoch, not of its last, which takes
            validation data that it is not trained on.
        modules: what a training imports, by name, for processes that get ready for one.
        ddp: arguments of DistributedDataParallel, where several workers share a training.
    """

    name: str
    Plan: type[Plan]
    fixed: frozenset[str]
    free: frozenset[str]
    private: frozenset[str]
    mutable: tuple[str, ...]
    main_loss: str
    keeps_best: bool
    modules: tuple[str, ...]
    ddp: Mapping[str, Any]

    def check(self, plan: Any, *, workers: int) -> Sequence[str]:
        """Check what the plan says in the task's sections; notes on it. `workers` share a training.

        Raises:
            PlanError: with value, rule and remedy.
        """

    def find(self, plan: Any, *, recorded: Facts | None = None) -> Found:
        """Say what the data is, without opening it; check what depends on it.

        Args:
            recorded: the facts of a search that goes on.

        Raises:
            DataError: it is not there, or can't be read.
            PlanError: it does not go with the plan.
        """

    def holds_out(self, plan: Any) -> bool:
        """Whether there is data that no trial sees, on which candidates can be compared."""

    def open(self, plan: Any, say: Say, *, recorded: Facts | None = None) -> Data:
        """Open the data; it raises as `find`.

        Args:
            say: is told what a user should know.
            recorded: the facts of a search that goes on: nothing else will do.
        """

    def columns(self, plan: Any) -> Sequence[str]:
        """Metrics of tables and lines, what matters most first."""

    def caveat(self, facts: Facts) -> str:
        """What must be said beside each score on such data; empty if nothing must."""

    def tags(self, run: Any) -> list[str]:
        """Words by which a tracker may find runs of this kind."""

    def trainer_options(self, run: Any, folder: Path) -> dict[str, Any]:
        """Arguments of Lightning's Trainer that the task's sections settle.

        Args:
            folder: where the training may write what is its own.
        """

    def build(
        self, run: Any, part: Any, *, fresh: bool
    ) -> tuple[LightningModule, LightningDataModule | None]:
        """One training: built from torch's global random state, which is seeded.

        Args:
            run: a `Config` with every `auto` settled.
            part: as `Data.part` gave it.
            fresh: whether it begins anew, not from a checkpoint.
        """


@cache
def find_task(name: str) -> Task:
    """The task that a plan names; a PlanError if there is none."""
    if name in TASKS:
        return resolve_name(TASKS[name])  # type: ignore[no-any-return]
    if ":" not in name:
        raise PlanError(
            f"task is {name!r}; it must be {' or '.join(TASKS)}, or your own as"
            f" package.module:Task{nearest(name, TASKS)}"
        )
    own = OwnCode(kind="task", field="task", name=name, function="Task", parameters=())
    make = own.load()
    with own.guarded("making it"):
        made: Task = _kept_in(make(), own)
    missing = [part for part in Task.__annotations__ if not hasattr(made, part)]
    if missing:
        raise own.error(f", which has no {missing[0]}; a task has all of cifar_tune.plan.task.Task")
    return made


def _kept_in(task: Any, own: OwnCode) -> Any:
    """The user's own task, whose methods may raise anything, or try to leave: that is told."""
    for name in dir(task):
        method = getattr(task, name)
        if inspect.isroutine(method) and not name.startswith("_"):
            setattr(task, name, own.guarded(f"its {name}")(method))
    return task


def task_of(run: RunConfig) -> Task:
    return find_task(run.task)


def columns_of(plan: Plan) -> tuple[str, ...]:
    """The figures of tables and lines: the plan's own first, unless the task lists them anyway."""
    columns, metric = tuple(task_of(plan).columns(plan)), plan.search.metric
    asked = [goal.metric for goal in plan.search.goals]
    reported = [name for name in asked if name not in COSTS or name == PARAMETERS]
    first = columns if metric in columns else (metric, *columns)
    return tuple(dict.fromkeys([*first, *reported]))


def in_words(metric: str) -> str:
    """A metric's name for people: `val_f1` and `val/f1` are validation f1."""
    return VALIDATION.sub("validation ", metric).replace("_", " ")
