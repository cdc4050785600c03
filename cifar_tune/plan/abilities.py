"""What a task may be able to do besides: each a protocol of its own, which the engine looks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from cifar_tune.plan.config import Plan
from cifar_tune.plan.objectives import Goal
from cifar_tune.plan.space import Value
from cifar_tune.plan.task import Say, task_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Suggestion(NamedTuple):
    """A config that suits what was given, by its name, with other values for some of its fields,
    and what it suits, in words."""

    config: str
    values: Mapping[str, Value]
    suits: str


@runtime_checkable
class Suggests(Protocol):
    """A task that knows which of the shipped configs suits the data."""

    def suggest(self, given: Mapping[str, Any], say: Say) -> Suggestion | None:
        """The config to begin with where the user names none; none: the plan's defaults.

        Args:
            given: fields of the plan that the user has set, by their dotted names. They are not
                checked yet; what is wrong with them is told later.
            say: is told what takes time.
        """


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A task's own part of the page."""

    name: str  # in a link to it
    title: str
    caption: str  # what it shows, or why there is nothing to show
    figure: Any = None  # plotly's, or none
    height: int = 380  # of the figure, in pixels
    gallery: tuple[tuple[str, str], ...] = ()  # a picture (PNG, base64) and its caption each


@runtime_checkable
class Costs(Protocol):
    """A task that can tell what its models cost on any machine."""

    def cost(self, run: Any, data: Any) -> dict[str, int]:
        """`multiply_adds` of an example, and `parameters`; it may raise anything."""


@runtime_checkable
class Times(Protocol):
    """A task that can time its models."""

    def latencies(self, runs: Sequence[Any], data: Any) -> Iterable[float]:
        """Milliseconds of one example through the model of each run, in their order, each measured
        when it is asked for; it may raise anything."""


@runtime_checkable
class ComparesLater(Protocol):
    """A task whose trials can't be compared from their first epoch on."""

    def comparable(self, plan: Any, epoch: int) -> int:
        """The first epoch, from `epoch` on, by which trials can be judged: they report there, and
        their learning rate no longer rises. The plan may have `auto` fields."""


@runtime_checkable
class Exports(Protocol):
    """A task whose models can be taken away."""

    def checkpoint_bytes(self, plan: Any) -> int:
        """Size of the largest checkpoint of a plan; it may take seconds (torch)."""

    def use(self, folder: Path) -> str:
        """The command that uses the model of a results folder, or of one of its finals."""

    def write_winner(self, results: Any, data: Any, say: Say, *, whole: bool) -> Path | None:
        """Fill `best/`, or `search-winner/` once a final model is there, with a search's winner.

        What is there of it is not written again.

        Args:
            whole: in all forms that a model is handed over in; a winner whose place a final model
                will take needs none.

        Raises:
            ResultsError: the winner's checkpoint is damaged; the folder is as before.
        """

    def hand_over(
        self, results: Any, data: Any, model: Mapping[str, Any], judged: Path | None, say: Say
    ) -> bool:
        """Fill `best/` with a final model, unless it is there; whether it is there then.

        Args:
            results: of the search, with the scores of the final models.
            model: `kind` (final or ensemble), `file` in the results folder, `sha256`, `seed`,
                `score`, `ci95`.
            judged: a checkpoint of the same configuration that has not seen the confirmation
                examples; none: there is none.
        """


@runtime_checkable
class Combines(Protocol):
    """A task that can make one model of several."""

    def combine(self, checkpoints: Sequence[Path], target: Path) -> None:
        """Write a checkpoint that answers with the mean of several."""


@runtime_checkable
class Panels(Protocol):
    """A task that has something of its own to show on the page."""

    def panels(self, results: Any) -> list[Panel]:
        """Its parts of the page of a search's `Results`."""


@runtime_checkable
class Scores(Protocol):
    """A task whose models can be scored on what is held out."""

    def goal(self, plan: Any) -> Goal:
        """What the mean of the figures is called, and whether more or less of it is better."""

    def held_out(self, data: Any, split: Literal["confirm", "test"], plan: Any) -> Any:
        """Open examples that no search sees; that it happens once is the caller's promise."""

    def score(self, checkpoint: Path, examples: Any, plan: Any) -> NDArray[np.generic]:
        """A figure of each example, [examples] bool or float; [1] where it can't be told by
        example."""


def score_name(plan: Plan) -> str:
    """What scores on held-out data are called: the task's own score, else the plan's metric."""
    task = task_of(plan)
    return task.goal(plan).metric if isinstance(task, Scores) else plan.search.metric
