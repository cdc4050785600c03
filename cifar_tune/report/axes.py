"""A searched field as an axis: its values as plotly takes them, its ticks, and places along it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cifar_tune.plan.space import LISTS, Dimension, Value
from cifar_tune.report.words import setting

LOGARITHMIC = ("loguniform", "logint", "pow2")


def on_axis(dimension: Dimension, value: Value) -> Any:
    """A value as its axis takes it: a listed one is a word there."""
    return setting(value) if dimension.kind in LISTS else value


def axis_of(dimension: Dimension) -> dict[str, Any]:
    """The axis of a field, for plotly."""
    if dimension.kind in LISTS:
        words = [setting(value) for value in listed(dimension)]
        return {"type": "category", "categoryorder": "array", "categoryarray": words}
    if dimension.kind not in LOGARITHMIC:
        return {}
    values = ticks(dimension)  # Plotly's own are 2 3 4 5 without the decade, or 10µ
    return {"type": "log", "tickvals": values, "ticktext": [setting(value) for value in values]}


def has_order(dimension: Dimension) -> bool:
    """Whether its values are more or less than each other, as numbers are and words are not."""
    values = dimension.values
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def listed(dimension: Dimension) -> list[Value]:
    """The listed values, numbers by size and all else in the order of the list."""
    values = list(dimension.values)
    return sorted(values, key=lambda value: float(value or 0)) if has_order(dimension) else values


def ticks(dimension: Dimension) -> Sequence[Value]:
    """The values at which a field's axis has ticks."""
    if dimension.values:
        return listed(dimension)
    low, high = dimension.low, dimension.high
    if dimension.kind not in LOGARITHMIC:
        return [low, (low + high) / 2, high] if dimension.kind == "uniform" else [low, high]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if math.log10(high / low) <= 2 else (1,)
    values = [float(f"{step}e{decade}") for decade in decades for step in steps]
    return [value for value in values if low <= value <= high] or [low, high]


def place(dimension: Dimension, value: Value) -> float:
    """Where a value lies between the ends of its field, 0 to 1."""
    if dimension.kind in LISTS:
        values = listed(dimension)
        return values.index(value) / (len(values) - 1) if len(values) > 1 else 0.5
    assert isinstance(value, (int, float))
    low, high, at = float(dimension.low), float(dimension.high), float(value)
    if dimension.kind in LOGARITHMIC:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low) if high > low else 0.5


def grid(dimension: Dimension, count: int) -> list[Value]:
    """Values along a field's axis at equal distances: `count`, or the listed ones."""
    if dimension.kind in LISTS:
        return listed(dimension)
    spaced = np.geomspace if dimension.kind in LOGARITHMIC else np.linspace
    return list(spaced(dimension.low, dimension.high, count).tolist())
