"""How figures, fields and times read: one style on the page, in the live table and in the lines."""

from __future__ import annotations

import math
from collections.abc import Mapping


def measured(value: float) -> str:
    """A measured figure to three significant digits, of which the last may be 0."""
    if not math.isfinite(value) or value == 0:
        return "0" if value == 0 else str(value)
    exponent = int(f"{value:.2e}".partition("e")[2])  # once rounded: 0.9996 is 1.00
    if exponent < -4:
        return f"{value:.2e}"
    return f"{value:,.{max(0, 2 - exponent)}f}"


def setting(value: object) -> str:
    """A value of a field: fractions to three significant digits, all else as it is."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def settings(values: Mapping[str, object]) -> str:
    """Fields and their values in a line."""
    return "  ".join(f"{field}={setting(value)}" for field, value in values.items())


def share(part: float) -> str:
    """A part of a whole, as a percentage."""
    return f"{measured(100 * part)} %"


def counted(count: int, noun: str) -> str:
    """A number of things: 1 trial, 2 trials."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """A time to two units: 45 s, 3 min 5 s, 2 h 40 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes < 10 else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def clock(seconds: float) -> str:
    """Minutes and seconds since a start."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:3d}:{rest:02d}"
