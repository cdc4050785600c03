"""What a search space may say: bounds, choices, grids and conditions, in plain values."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KINDS = ("choice", "grid", "uniform", "loguniform", "int", "logint", "pow2")
LISTS = ("choice", "grid")
LARGEST = 1e15  # every whole number below it is a float too
MAX_GRID_POINTS = 100_000  # a product beyond this is a typing error, not a search

Value = bool | int | float | str | None


class SpaceError(ValueError):
    """A search space entry breaks a rule; `field` is the entry's field name."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{'.'.join(filter(None, ('search.space', field)))} {message}")
        self.field = field


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One searched field: its kind, its values or bounds, and when it applies.

    `values` holds the listed values (`choice`, `grid`) or the powers (`pow2`) and is empty for
    ranges; `low` and `high` are the bounds of ranges, both ends included.
    """

    field: str
    kind: str
    values: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    when: tuple[tuple[str, tuple[Value, ...]], ...] = ()

    def draw(self, rng: random.Random) -> Value:
        """One value of this dimension."""
        if self.values:
            return rng.choice(self.values)
        if self.kind == "uniform":
            return rng.uniform(self.low, self.high)
        if self.kind == "int":
            return rng.randint(int(self.low), int(self.high))
        if self.kind == "loguniform":
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
            return min(max(value, self.low), self.high)  # exp(log(x)) may miss x by one ulp
        # logint: equal mass in log space for each integer's cell [k - 0.5, k + 0.5)
        value = math.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5)))
        return min(max(round(value), int(self.low)), int(self.high))

    def active(self, config: Mapping[str, Value]) -> bool:
        """Whether the conditions hold in `config`, which has the fields that `when` names."""
        return all(name in config and config[name] in allowed for name, allowed in self.when)


Space = tuple[Dimension, ...]


def parse_space(raw: Mapping[str, Any]) -> Space:
    """Check a whole space; dimensions come back in an order in which conditions can be decided.

    Raises:
        SpaceError: with the entry's name, its value, the rule and a remedy.
    """
    parsed = {field: _parse_dimension(field, entry) for field, entry in raw.items()}
    for dimension in parsed.values():
        for name, allowed in dimension.when:
            _check_condition(dimension, name, allowed, parsed)
    return _ordered(parsed)


def _parse_dimension(field: str, entry: Any) -> Dimension:
    if not isinstance(entry, Mapping):
        raise SpaceError(field, f"is {entry!r}; it must be one of {{{', '.join(KINDS)}: ...}}")
    kinds = [key for key in entry if key != "when"]
    if len(kinds) != 1 or kinds[0] not in KINDS:
        raise SpaceError(field, f"has {kinds or 'no kind'}; give exactly one of {', '.join(KINDS)}")
    kind = kinds[0]
    when = _parse_when(field, entry.get("when", {}))
    if kind in LISTS:
        return Dimension(
            field=field, kind=kind, values=_listed(field, kind, entry[kind]), when=when
        )
    low, high = _bounds(field, kind, entry[kind])
    values = _powers(field, int(low), int(high)) if kind == "pow2" else ()
    return Dimension(field=field, kind=kind, low=low, high=high, values=values, when=when)


def _listed(field: str, kind: str, values: Any) -> tuple[Value, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise SpaceError(field, f"has {kind}: {values!r}; give a list of at least one value")
    for value in values:
        if not isinstance(value, Value):
            raise SpaceError(field, f"has {kind} value {value!r}; give numbers, words or booleans")
        if isinstance(value, float) and not math.isfinite(value):
            raise SpaceError(field, f"has {kind} value {value}; values must be finite")
    unique = {(type(value), value) for value in values}
    if len(unique) != len(values):
        raise SpaceError(field, f"has {kind}: {list(values)}; a value stands there twice: drop one")
    return tuple(values)


def _bounds(field: str, kind: str, bounds: Any) -> tuple[float, float]:
    whole = kind in ("int", "logint", "pow2")
    number = int if whole else (int, float)
    if not isinstance(bounds, Sequence) or isinstance(bounds, str) or len(bounds) != 2:
        raise SpaceError(field, f"has {kind}: {bounds!r}; give two bounds, [low, high]")
    for bound in bounds:
        if not isinstance(bound, number) or isinstance(bound, bool) or not abs(bound) < LARGEST:
            wanted = f"{'whole' if whole else 'finite'} numbers below {LARGEST:g}"
            raise SpaceError(field, f"has {kind} bound {bound!r}; bounds must be {wanted}")
    low, high = bounds
    if low >= high:
        raise SpaceError(
            field, f"has {kind}: [{low}, {high}]; low must be below high: swap them, or fix the"
            f" field with --set {field}={low}",
        )  # fmt: skip
    if kind in ("loguniform", "logint", "pow2") and low <= 0:
        raise SpaceError(field, f"has {kind} low {low}; a logarithmic range must start above 0")
    return low, high


def _powers(field: str, low: int, high: int) -> tuple[int, ...]:
    for bound in (low, high):
        if bound & (bound - 1):
            near = 2 ** round(math.log2(bound))
            raise SpaceError(field, f"has pow2 bound {bound}; it must be a power of two, as {near}")
    return tuple(2**power for power in range(low.bit_length() - 1, high.bit_length()))


def _parse_when(field: str, when: Any) -> tuple[tuple[str, tuple[Value, ...]], ...]:
    if not isinstance(when, Mapping):
        raise SpaceError(field, f"has when: {when!r}; give {{field: value}} or {{field: [values]}}")
    return tuple(
        (name, tuple(allowed) if isinstance(allowed, (list, tuple)) else (allowed,))
        for name, allowed in when.items()
    )


def _check_condition(
    dimension: Dimension, name: str, allowed: tuple[Value, ...], space: Mapping[str, Dimension]
) -> None:
    if name not in space:
        raise SpaceError(
            dimension.field, f"has when: {name}, which is not searched; name a searched field"
        )
    parent = space[name]
    if not allowed:
        raise SpaceError(dimension.field, f"has when: {name}: []; give at least one value")
    if parent.kind in ("uniform", "loguniform"):
        raise SpaceError(
            dimension.field, f"has when: {name}, which is a range of fractions; name another field"
        )
    possible = parent.values or range(int(parent.low), int(parent.high) + 1)
    if not any(value in possible for value in allowed):
        raise SpaceError(
            dimension.field,
            f"has when: {name}: {list(allowed)}; {name} is never that, only {possible}",
        )


def _ordered(space: Mapping[str, Dimension]) -> Space:
    """Parents before children; within that, the order of the file."""
    done: dict[str, Dimension] = {}
    waiting = dict(space)
    while waiting:
        ready = [d for d in waiting.values() if all(name in done for name, _ in d.when)]
        if not ready:
            field = next(iter(waiting))
            raise SpaceError(
                field, f"has when in a circle with {sorted(waiting)}; break the circle"
            )
        for dimension in ready:
            done[dimension.field] = waiting.pop(dimension.field)
    return tuple(done.values())


def draw_random(space: Space, seed: int, index: int) -> dict[str, Value]:
    """Configuration `index` (from 0) of a random search: the same for ever, whatever ran before.

    Each field has a random stream of its own, so that adding a field leaves the others as they
    were. `grid` dimensions are not drawn: the indices walk round their product.
    """
    grid = [dimension for dimension in space if dimension.kind == "grid"]
    cell = _nth_cell(grid, index)
    config: dict[str, Value] = {}
    for dimension in space:
        if dimension.active(config):
            rng = random.Random(f"{seed}:{index}:{dimension.field}")
            drawn = cell[dimension.field] if dimension.kind == "grid" else dimension.draw(rng)
            config[dimension.field] = drawn
    return config


def _nth_cell(grid: Sequence[Dimension], index: int) -> dict[str, Value]:
    cell: dict[str, Value] = {}
    for dimension in reversed(grid):
        index, position = divmod(index, len(dimension.values))
        cell[dimension.field] = dimension.values[position]
    return cell


def grid_points(space: Space) -> list[dict[str, Value]]:
    """All combinations of a space of listed values, in order, those equal under `when` once.

    Raises:
        SpaceError: a dimension is a range, or there are more than `MAX_GRID_POINTS` points.
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
    return list(_distinct_cells(space))


def _distinct_cells(space: Space) -> Iterator[dict[str, Value]]:
    seen: set[tuple[tuple[str, Value], ...]] = set()
    for cell in itertools.product(*(dimension.values for dimension in space)):
        config: dict[str, Value] = {}
        for dimension, value in zip(space, cell, strict=True):
            if dimension.active(config):
                config[dimension.field] = value
        key = tuple(config.items())
        if key not in seen:
            seen.add(key)
            yield config
