"""What the sections of a plan are made of: their base class, types of fields, and flags."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from cifar_tune.plan.strict_yaml import dump

Auto = Literal["auto"]
Mode = Literal["max", "min"]
OWN_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
OwnCode = Annotated[str, Field(pattern=f"^{OWN_NAME.pattern}$")]
PositiveInt = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def absolute_path(path: Any) -> Any:
    """A local path made absolute, `~` included: a trial may have another working directory."""
    if not isinstance(path, str) or "://" in path:
        return path
    return os.path.abspath(os.path.expanduser(path))


Absolute = AfterValidator(absolute_path)


@dataclass(frozen=True)
class Flag:
    """A field that has a flag of its own on the command line.

    Attributes:
        metavar: what stands for its value in `--help`; none: the flag alone says true.
        name: the flag; none: the field's name with dashes.
    """

    metavar: str | None = None
    name: str | None = None


class Section(BaseModel):
    """Base of all sections: frozen, keyword-only, unknown keys rejected, no silent conversion."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


class OpenSection(Section):
    """A section that takes any field: arguments of the user's own, which its task checks."""

    model_config = ConfigDict(extra="allow")


def split_words(given: Any) -> Any:
    """Words that a flag has in one, with commas between them."""
    return given.replace(",", " ").split() if isinstance(given, str) else given


def budget_seconds(time: str | float) -> float:
    """Seconds in `90s`, `20m`, `2h`, or a plain number of seconds above 0; else a ValueError."""
    text, units = str(time), {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise ValueError(f"is {time!r}; give a time above 0 as 90s, 20m or 2h")
    return seconds


def dump_yaml(section: Section) -> str:
    """All fields of a plan or run as YAML that `load.load_plan` reads back to an equal one."""
    return dump(section.model_dump(mode="json"))


def is_field(section: type[Section], name: str) -> bool:
    """Whether a dotted name is that of a field, or of a section that takes any, or inside one."""
    if name in known_fields(section):
        return True
    outer, _, inner = name.partition(".")
    info = section.model_fields.get(outer)
    kind = None if info is None else info.annotation
    if not isinstance(kind, type) or not issubclass(kind, Section):
        return False
    return issubclass(kind, OpenSection) or (bool(inner) and is_field(kind, inner))


def put(values: dict[str, Any], name: str, value: Any) -> None:
    """Put a value where a dotted name leads to; sections on the way are made, or copied."""
    *outer, last = name.split(".")
    for section in outer:
        values[section] = dict(values.get(section) or {})
        values = values[section]
    values[last] = value


def known_fields(section: type[Section], prefix: str = "") -> dict[str, FieldInfo]:
    """All fields that hold a value, by their dotted names, in the order of the plan."""
    fields: dict[str, FieldInfo] = {}
    for name, info in section.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            fields |= known_fields(inner, f"{prefix}{name}.")
        else:
            fields[prefix + name] = info
    return fields
