"""What a search is judged by: its metric, and where it has several aims, the others beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator

from cifar_tune.plan.section import Mode

TRAIN_SECONDS, PARAMETERS, LATENCY = "train_seconds", "parameters", "latency_ms"
COSTS = (TRAIN_SECONDS, PARAMETERS, LATENCY)
"""What any trial can be measured by besides what its validations log; less of each is better."""


class Goal(NamedTuple):
    """A figure, and whether more or less of it is better."""

    metric: str
    mode: Mode

    @property
    def sign(self) -> Literal[1, -1]:
        """What the figure is multiplied by, so that more of it is better."""
        return 1 if self.mode == "max" else -1


def _checked(objectives: list[dict[str, Mode]]) -> list[dict[str, Mode]]:
    names = [name for one in objectives for name in one]
    wide = next((one for one in objectives if len(one) != 1), None)
    if wide is not None:
        raise ValueError(f"has {wide!r}; each is one `figure: max` or `figure: min`")
    if len(set(names)) < len(names):
        raise ValueError(f"names {', '.join(names)}; each figure stands there once")
    if len(names) == 1:
        raise ValueError(
            f"has {names[0]} alone; give at least two, or name it by search.metric instead"
        )
    for name, mode in (pair for one in objectives for pair in one.items()):
        if name in COSTS and mode == "max":
            raise ValueError(f"has {name}: max, and less of it is better; give {name}: min")
    return objectives


Objectives = Annotated[list[dict[str, Mode]], AfterValidator(_checked)]


def first_of(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The section `search` as it is given; its first objective is the metric, if none is given."""
    given = raw.get("objectives")
    first = given[0] if isinstance(given, list) and given else None
    if not isinstance(first, dict) or len(first) != 1:
        return raw
    ((name, mode),) = first.items()
    if name in COSTS:  # it is told by its own field
        return raw
    metric = raw.get("metric") or name
    return {**raw, "metric": metric, "mode": raw.get("mode") or (mode if metric == name else None)}


def check_first(objectives: Sequence[Mapping[str, Mode]], metric: str, mode: Mode) -> None:
    """A ValueError unless the first objective is the metric, which each validation has."""
    ((name, direction),) = objectives[0].items()
    if name in COSTS:
        raise ValueError(
            f"begins with {name}; the first decides what is stopped early and who wins, so it must"
            " be a figure of each validation: put that first"
        )
    if (name, direction) != (metric, mode):
        raise ValueError(
            f"begins with {name}: {direction}, and search.metric is {metric} ({mode}); the first"
            " objective is the metric: leave metric and mode out, or give the same"
        )


def goals_of(metric: str, mode: Mode, objectives: Sequence[Mapping[str, Mode]]) -> tuple[Goal, ...]:
    """All that a search is judged by, the metric first."""
    others = [Goal(*pair) for one in objectives for pair in one.items()]
    return (Goal(metric, mode), *(goal for goal in others if goal.metric != metric))
