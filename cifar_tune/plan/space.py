"""What a search space may say: bounds, choices, grids and conditions, in plain values."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, NamedTuple

from cifar_tune.errors import PlanError
from cifar_tune.plan.own_code import nearest

KINDS = ("choice", "grid", "uniform", "loguniform", "int", "logint", "pow2")
LISTS = ("choice", "grid")
FRACTIONS = ("uniform", "loguniform")
LARGEST = 1e15  # every whole number below it is a float too

Value = bool | int | float | str | None
# How far from a prior's value draws lie, as a part of the dimension: of numbers one standard
# deviation, of listed values the part that is drawn from all of them.
SPREADS = {"low": 0.5, "medium": 0.25, "high": 0.125}


class SpaceError(PlanError):
    """A search space entry breaks a rule; `field` is the entry's field name."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{'.'.join(filter(None, ('search.space', field)))} {message}")
        self.field = field


class Prior(NamedTuple):
    """A value that is thought to be good, and how far from it better ones may lie."""

    value: Value
    spread: float = SPREADS["medium"]


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
    prior: Prior | None = None

    def quantile(self, u: float) -> Value:
        """The value below which a part `u` (0 <= u < 1) of this dimension's draws lie.

        Listed values are equally likely and stand in the order of the list.
        """
        if self.values:
            return self.values[int(u * len(self.values))]
        low, high = self.low, self.high
        if self.kind == "int":
            return int(low) + int(u * (int(high) - int(low) + 1))
        if self.kind == "logint":
            # equal mass in log space for each integer's cell [k - 0.5, k + 0.5)
            value = _between(math.log(low - 0.5), math.log(high + 0.5), u)
            return min(max(round(math.exp(value)), int(low)), int(high))
        if self.kind == "loguniform":
            value = math.exp(_between(math.log(low), math.log(high), u))
        else:
            value = _between(low, high, u)
        return min(max(value, float(low)), float(high))  # rounding may miss an end by one ulp

    def draw(self, rng: random.Random) -> Value:
        return self.quantile(rng.random())

    def position(self, value: Any) -> float:
        """Where a value stands among this dimension's draws, from 0 to 1; `quantile` leads back."""
        if self.values:
            return (self.values.index(value) + 0.5) / len(self.values)
        low, high = float(self.low), float(self.high)
        if self.kind in ("int", "logint"):
            low, high = low - 0.5, high + 0.5
        if self.kind in ("loguniform", "logint"):
            low, high, value = math.log(low), math.log(high), math.log(value)
        return float((value - low) / (high - low))

    def draw_near(self, prior: Prior, rng: random.Random) -> Value:
        """A value near another: by a normal distribution that ends where the dimension does."""
        if self.kind in LISTS:
            return self.draw(rng) if rng.random() < prior.spread else prior.value
        centre = self.position(prior.value)
        while not 0 <= (place := rng.gauss(centre, prior.spread)) < 1:
            pass
        return self.quantile(place)

    def density_near(self, prior: Prior, value: Value) -> float:
        """How likely `draw_near` gives this value, 1 being as likely as `draw`."""
        if self.kind in LISTS:
            kept = (1 - prior.spread) * len(self.values) * _stands_for(value, prior.value)
            return prior.spread + kept
        normal = NormalDist(self.position(prior.value), prior.spread)
        return normal.pdf(self.position(value)) / (normal.cdf(1) - normal.cdf(0))

    def holds(self, value: object) -> bool:
        """Whether this dimension can give `value`; a whole number may stand for a fraction."""
        if self.values:
            return any(_stands_for(value, listed) for listed in self.values)
        kinds = (int, float) if self.kind in FRACTIONS else int
        return (
            isinstance(value, kinds)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
        )

    @property
    def size(self) -> int | None:
        """How many values it can give; none for ranges of fractions."""
        if self.kind in FRACTIONS:
            return None
        return len(self.values) or int(self.high) - int(self.low) + 1

    def __str__(self) -> str:
        """The entry as a plan writes it, without its conditions."""
        ends = [self.low, self.high]
        return f"{self.kind}: {list(self.values) if self.kind in LISTS else ends}"

    @property
    def ends(self) -> tuple[Value, Value]:
        """Both ends of a range, as numbers of its kind."""
        number = int if self.kind in ("int", "logint") else float
        return number(self.low), number(self.high)

    def active(self, config: Mapping[str, Value]) -> bool:
        """Whether the conditions hold in `config`, which has the fields that `when` names."""
        return all(name in config and config[name] in allowed for name, allowed in self.when)


Space = tuple[Dimension, ...]


def _between(low: float, high: float, u: float) -> float:
    return low + u * (high - low)


def _stands_for(value: object, listed: Value) -> bool:
    same = type(value) is type(listed) or (type(value) is int and type(listed) is float)
    return same and value == listed


def parse_space(raw: Mapping[str, Any]) -> Space:
    """A checked space, else a SpaceError; what others have in their conditions comes first."""
    parsed = {field: _with_prior(_parse_dimension(field, raw[field]), raw[field]) for field in raw}
    for field, dimension in parsed.items():
        when = tuple((n, _possible(field, n, given, parsed)) for n, given in dimension.when)
        parsed[field] = replace(dimension, when=when)
    return _ordered(parsed)


def _parse_dimension(field: str, entry: Any) -> Dimension:
    if not isinstance(entry, Mapping):
        known = f"{{{', '.join(KINDS)}: ...}}"
        raise SpaceError(field, f"is {entry!r}; it must be one of {known}{_rather(field, entry)}")
    kinds = [key for key in entry if key not in ("when", "prior", "confidence")]
    if len(kinds) != 1 or kinds[0] not in KINDS:
        hint = nearest(kinds[0], KINDS) if len(kinds) == 1 else ""
        raise SpaceError(
            field, f"has {kinds or 'no kind'}; give exactly one of {', '.join(KINDS)}{hint}"
        )
    kind = kinds[0]
    when = _parse_when(field, entry.get("when", {}))
    if kind in LISTS:
        return Dimension(
            field=field, kind=kind, values=_listed(field, kind, entry[kind]), when=when
        )
    low, high = _bounds(field, kind, entry[kind])
    values = _powers(field, int(low), int(high)) if kind == "pow2" else ()
    return Dimension(field=field, kind=kind, low=low, high=high, values=values, when=when)


def _with_prior(dimension: Dimension, entry: Mapping[str, Any]) -> Dimension:
    """The dimension with the prior that its entry gives, if it does."""
    field, sure = dimension.field, entry.get("confidence", "medium")
    if "prior" not in entry:
        if "confidence" in entry:
            raise SpaceError(field, f"has confidence: {sure} and no prior; give prior: a value")
        return dimension
    value = entry["prior"]
    if not isinstance(sure, str) or sure not in SPREADS:
        raise SpaceError(field, f"has confidence: {sure!r}; give one of {', '.join(SPREADS)}")
    if dimension.kind == "grid":
        raise SpaceError(field, f"has prior: {value!r} and grid, all of which is run; give choice")
    if not dimension.holds(value):
        raise SpaceError(field, f"has prior: {value!r}, and gives {dimension}; a prior lies in it")
    listed = (one for one in dimension.values if _stands_for(value, one))  # 1 stands for 1.0
    return replace(dimension, prior=Prior(next(listed, value), SPREADS[sure]))


def _rather(field: str, entry: Any) -> str:
    """What an entry without a kind was probably meant to be."""
    if isinstance(entry, list) and entry:
        return f"; did you mean {{choice: {entry!r}}}?"
    if isinstance(entry, (bool, int, float)):
        return f"; a value that is not searched is given with --set {field}={entry!r}"
    return ", such as {loguniform: [0.01, 1.0]}"


def _listed(field: str, kind: str, values: Any) -> tuple[Value, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise SpaceError(field, f"has {kind}: {values!r}; give a list of at least one value")
    for value in values:
        if not isinstance(value, Value):
            raise SpaceError(field, f"has {kind} value {value!r}; give numbers, words or booleans")
        if isinstance(value, float) and not math.isfinite(value):
            raise SpaceError(field, f"has {kind} value {value}; values must be finite")
    unique = {(isinstance(value, bool), value) for value in values}  # True == 1, 1 == 1.0
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


def _possible(
    field: str, name: str, allowed: tuple[Value, ...], space: Mapping[str, Dimension]
) -> tuple[Value, ...]:
    """Those values of a condition that the named field can give."""
    if name not in space:
        raise SpaceError(field, f"has when: {name}, which is not searched; name a searched field")
    parent = space[name]
    if not allowed:
        raise SpaceError(field, f"has when: {name}: []; give at least one value")
    if parent.kind in FRACTIONS:
        raise SpaceError(
            field, f"has when: {name}, which is a range of fractions; name another field"
        )
    possible = tuple(value for value in allowed if parent.holds(value))
    if not possible:
        raise SpaceError(
            field, f"has when: {name}: {list(allowed)}; {name} is never that, only {parent}"
        )
    return possible


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
