"""The configurations of a search space: drawn, listed, counted, and known good ones checked."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from cifar_tune.plan.config import Plan
from cifar_tune.plan.space import SPREADS, Dimension, Prior, Space, SpaceError, Value

MAX_GRID_POINTS = 100_000  # a product beyond this is a typing error, not a search


def draw_random(
    space: Space, seed: int, index: int, fixed: Mapping[str, Value] = MappingProxyType({})
) -> dict[str, Value]:
    """Configuration `index` (from 0) of a random search: the same for ever, whatever ran before.

    Each field has a random stream of its own, so that adding a field leaves the others as they
    were. `grid` dimensions are not drawn: the indices walk round their product. What is `fixed`,
    as `check_point` lets it pass, is not drawn either.
    """

    def draw(dimension: Dimension) -> Value:
        return dimension.draw(random.Random(f"{seed}:{index}:{dimension.field}"))

    return fill(space, index, fixed, draw)


def fill(
    space: Space, index: int, fixed: Mapping[str, Value], draw: Callable[[Dimension], Value]
) -> dict[str, Value]:
    """Configuration `index`: what is fixed, the index's cell of the grid, and drawn values."""
    values = {**_nth_cell(grid_of(space), index), **fixed}
    config: dict[str, Value] = {}
    for dimension in space:
        if dimension.active(config):
            field = dimension.field
            config[field] = values[field] if field in values else draw(dimension)
    return config


def grid_of(space: Space) -> list[Dimension]:
    """The dimensions whose product the indices of a search walk round."""
    return [dimension for dimension in space if dimension.kind == "grid"]


def _nth_cell(grid: Sequence[Dimension], index: int) -> dict[str, Value]:
    cell: dict[str, Value] = {}
    for dimension in reversed(grid):
        index, position = divmod(index, len(dimension.values))
        cell[dimension.field] = dimension.values[position]
    return cell


def grid_points(space: Space) -> list[dict[str, Value]]:
    """All combinations of listed values, in order, those equal under `when` once.

    A SpaceError if a dimension is a range, or there are more than `MAX_GRID_POINTS`.
    """
    for dimension in space:
        if not dimension.values:
            raise SpaceError(
                dimension.field,
                f"is {dimension.kind}, which a grid search can't list; give grid: [values], or"
                " use --searcher random",
            )
    size = math.prod(len(dimension.values) for dimension in space)
    if size > MAX_GRID_POINTS:
        raise SpaceError(
            space[-1].field,
            f"makes a grid of {size:,} points; at most {MAX_GRID_POINTS:,} are listed: use"
            " --searcher random",
        )
    distinct: dict[tuple[tuple[str, Value], ...], dict[str, Value]] = {}
    for cell in itertools.product(*(dimension.values for dimension in space)):
        point: dict[str, Value] = {}
        for dimension, value in zip(space, cell, strict=True):
            if dimension.active(point):
                point[dimension.field] = value
        distinct.setdefault(tuple(point.items()), point)
    return list(distinct.values())


def count_points(space: Space) -> int | None:
    """How many configurations a space has; none where a range of fractions makes it endless.

    Those equal under `when` count once. None of them is listed: only values that conditions tell
    apart are looked at.
    """
    if any(dimension.size is None for dimension in space):
        return None
    return _count(space, {})


def _count(space: Space, config: Mapping[str, Value]) -> int:
    if not space:
        return 1
    first, rest = space[0], space[1:]
    if not first.active(config):
        return _count(rest, config)
    conditions = [
        set(allowed) for child in rest for name, allowed in child.when if name == first.field
    ]
    alike: dict[tuple[bool, ...], list[Value]] = {}  # by the conditions that they fulfil
    for value in set[Value]().union(*conditions):
        alike.setdefault(tuple(value in allowed for allowed in conditions), []).append(value)
    count = sum(
        len(values) * _count(rest, {**config, first.field: values[0]}) for values in alike.values()
    )
    others = (first.size or 0) - sum(map(len, alike.values()))  # no condition tells these apart
    return count + (others * _count(rest, config) if others else 0)


def check_point(space: Space, point: Mapping[str, Any]) -> None:
    """A SpaceError unless a known good point, or a part of one, lies in a space."""
    dimensions = {dimension.field: dimension for dimension in space}
    for field, value in point.items():
        if field not in dimensions:
            raise SpaceError(
                field, f"is not there, and the point has {field}: {value!r}; leave it out, or"
                f" search it: what is searched is {', '.join(dimensions)}",
            )  # fmt: skip
        dimension = dimensions[field]
        if not dimension.holds(value):
            raise SpaceError(
                field, f"gives {dimension}, and the point has {value!r}; change the point, or the"
                " space so that it holds this value",
            )  # fmt: skip
        for name, allowed in dimension.when:
            wanted = " or ".join(map(str, allowed))
            if name not in point:
                raise SpaceError(
                    field, f"applies when {name} is {wanted}, and the point has no {name}; give it"
                    f" too: {name}: {allowed[0]}",
                )  # fmt: skip
            if point[name] not in allowed:
                raise SpaceError(
                    field, f"applies when {name} is {wanted}, and the point has {name}:"
                    f" {point[name]}; leave {field} out of the point",
                )  # fmt: skip


def lies_in(space: Space, config: Mapping[str, Value]) -> bool:
    """Whether a space can give this whole configuration: no field missing, none too many."""
    active = [dimension for dimension in space if dimension.active(config)]
    return len(active) == len(config) and all(
        dimension.field in config and dimension.holds(config[dimension.field])
        for dimension in active
    )


def priors_of(plan: Plan) -> dict[str, Prior]:
    """What is thought to be good of each field: its prior, or else the plan's own value, if that is
    one that the field can take, of which little is held."""
    priors, values = dict[str, Prior](), plan.as_values()
    for dimension in plan.search.parsed_space:
        own: Any = values
        for part in dimension.field.split("."):
            own = own.get(part) if isinstance(own, dict) else None
        if dimension.prior is not None:
            priors[dimension.field] = dimension.prior
        elif dimension.holds(own):
            priors[dimension.field] = Prior(own, SPREADS["low"])
    return priors


def possible_values(
    plan: Plan, field: str, given: Mapping[str, Value] = MappingProxyType({})
) -> list[Value]:
    """What a field can be in a trial: each listed value, or both ends of its range, if it is
    searched; with a condition, or without a search, the plan's own value too. A condition on what
    is `given` is decided."""
    section, _, key = field.partition(".")
    own: list[Value] = [getattr(getattr(plan, section), key)]
    for dimension in plan.search.parsed_space:
        if dimension.field == field:
            if any(
                name in given and given[name] not in allowed for name, allowed in dimension.when
            ):
                return own
            drawn = list(dimension.values) or list(dimension.ends)
            open_ones = [name for name, _ in dimension.when if name not in given]
            return [*drawn, *(own if open_ones else [])]
    return own
