"""Turns what pydantic says of a plan into lines that help: place, value, rule, nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from pydantic import ValidationError

from cifar_tune.plan.compatibility import own_searcher
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
    depth, section = 0, kind
    while depth < len(location):
        info = section.model_fields.get(str(location[depth]))
        depth += 1
        if info is None or not (isinstance(info.annotation, type) and _is_section(info.annotation)):
            break
        section = info.annotation
    return location[:depth]


def _is_section(annotation: type) -> bool:
    return issubclass(annotation, Section)


def _explain(item: Mapping[str, Any], kind: type[Section], place: Place) -> str:
    path = item["loc"]
    name = ".".join(str(part) for part in path)
    if item["type"] == "extra_forbidden":
        near = hint(name, known_fields(kind))
        return f"{place(path)}: {name} is not a field of the plan{near}"
    rule = str(item["msg"]).replace("Input should be", "it must be").removeprefix("Value error, ")
    rule = rule[0].lower() + rule[1:]
    verb = "" if rule.startswith("is ") else f"is {item['input']!r}; "
    given = str(item["input"])
    meant = own_searcher(given).meant() if path == ("search", "searcher") else ""
    return f"{place(path)}: {name} {verb}{rule}{meant or hint(given, _literals(path, kind))}"


def _literals(path: Path, kind: type[Section]) -> list[str]:
    """The words that the field at `path` takes, if it takes words."""
    annotation: Any = kind
    for part in path:
        fields = getattr(annotation, "model_fields", {})
        annotation = fields[part].annotation if part in fields else None
    members = [annotation, *get_args(annotation)]
    return [value for member in members for value in get_args(member) if isinstance(value, str)]


def hint(word: str, known: Iterable[str]) -> str:
    """The nearest known name; for a dotted name also one that differs only in its section."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    last = word.rpartition(".")[2]
    near = near or [name for name in names if name.rpartition(".")[2] == last][:1]
    return f"; did you mean {near[0]}?" if near else ""
