"""Turns what pydantic says of a plan into lines that help: place, value, rule, nearest name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from pydantic import ValidationError

from cifar_tune.plan.compatibility import own_searcher
from cifar_tune.plan.own_code import nearest
from cifar_tune.plan.section import Section, known_fields

Path = tuple[int | str, ...]
Place = Callable[[Path], str]
"""Where a field was given, in words."""


def explain(error: ValidationError, kind: type[Section], place: Place) -> str:
    """A line for each mistake in a plan of this class."""
    return "\n".join(_explain(item, kind, place) for item in _merged(error, kind))


def _merged(error: ValidationError, kind: type[Section]) -> list[dict[str, Any]]:
    """One error a field: a union reports one for each member, whose names end its location."""
    by_field: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for item in error.errors():
        by_field.setdefault(_field_path(item["loc"], kind), []).append(dict(item))
    return [_one_of(path, items) for path, items in by_field.items()]


def _one_of(path: tuple[Any, ...], items: list[dict[str, Any]]) -> dict[str, Any]:
    union = len(path) + 1  # the name of the union's member ends the location of its own errors
    for item in items:
        if len(item["loc"]) > union:  # an entry of a list: that it is no word is no news
            return {**item, "loc": (*path, *item["loc"][union:])}
    return {**items[-1], "loc": path, **({"msg": _either(items)} if len(items) > 1 else {})}


def _either(items: Iterable[Mapping[str, Any]]) -> str:
    prefix = "Input should be "
    members = [
        "your own as package.module:name"
        if item["type"] == "string_pattern_mismatch"
        else str(item["msg"]).removeprefix(prefix)
        for item in items
    ]
    return prefix + " or ".join(members)


def _field_path(location: Path, kind: type[Section]) -> Path:
    """`location` without the names of union members that pydantic appends."""
    if location[:2] == ("search", "space"):
        return location[:3]
    fields = known_fields(kind)
    outer = (location[:length] for length in range(1, len(location)))
    return next((path for path in outer if ".".join(map(str, path)) in fields), location)


def _explain(item: Mapping[str, Any], kind: type[Section], place: Place) -> str:
    path = item["loc"]
    name = ".".join(str(part) for part in path)
    if item["type"] == "extra_forbidden":
        near = nearest(name, known_fields(kind))
        return f"{place(path)}: {name} is not a field of the plan{near}"
    rule = str(item["msg"]).replace("Input should be", "it must be").removeprefix("Value error, ")
    rule = rule[0].lower() + rule[1:]
    verb = "" if rule.startswith(("is ", "has ")) else f"is {item['input']!r}; "
    given = str(item["input"])
    meant = own_searcher(given).meant() if path == ("search", "searcher") else ""
    words = _literals(name, kind)
    near = "" if given in words else nearest(given, words)  # a right word in the wrong place
    return f"{place(path)}: {name} {verb}{rule}{meant or near}"


def _literals(name: str, kind: type[Section]) -> list[str]:
    """The words that a field takes, if it takes words."""
    info = known_fields(kind).get(name)
    members = [] if info is None else [info.annotation, *get_args(info.annotation)]
    return [word for member in members for word in get_args(member) if isinstance(word, str)]
