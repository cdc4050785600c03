"""Reads a plan: a YAML file, then overrides; every mistake becomes one line that helps."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from cifar_tune.errors import PlanError
from cifar_tune.files import as_path
from cifar_tune.plan.compatibility import own_searcher
from cifar_tune.plan.config import Plan, RunConfig, SearchConfig, Section, known_fields
from cifar_tune.plan.points import check_point
from cifar_tune.plan.space import SpaceError, Value
from cifar_tune.plan.strict_yaml import Lines, parse_yaml, read_yaml

SPACE = "search.space."
# Searching these would make trials incomparable: the data they are judged on, the epochs that
# early stopping counts in, the arithmetic of the machine.
NOT_SEARCHABLE = {"data.path", "data.fallback", "data.train_size", "data.val_size"} | {
    "data.confirm_size", "data.split_seed", "data.eval_batch_size", "train.max_epochs",
    "train.threads",
}  # fmt: skip


def load_plan(
    config: str | Path | None = None,
    overrides: Iterable[str] = (),
    *,
    names: Mapping[str, str] | None = None,
) -> Plan:
    """Read a plan: a file (or the name of a config that ships with the package), then overrides.

    Args:
        config: path of a YAML file, or a bare name such as `lecture`; none: the defaults.
        overrides: `key=value` in order, as `--set` takes them; a key is a dotted field of the plan
            and a value is YAML.
        names: what to call an override in errors, if not `--set key=value`.

    Returns:
        The checked plan, with absolute paths.

    Raises:
        PlanError: with file and line or flag, the value, the rule, and the remedy.
    """
    where, lines = "plan", Lines()
    raw: dict[str, Any] = {}
    if config is not None:
        path = find_config(config)
        where, (loaded, lines) = str(path), read_yaml(path)
        raw = {} if loaded is None else loaded
        if not isinstance(raw, dict):
            raise PlanError(f"{where}: holds {type(raw).__name__}; a plan is `key: value` lines")
    return _overridden(raw, where, lines, overrides, names or {})


def plan_from(
    raw: Mapping[str, Any],
    where: str,
    overrides: Iterable[str] = (),
    *,
    names: Mapping[str, str] | None = None,
) -> Plan:
    """A plan from plain values that a program wrote, such as the journal's; else as `load_plan`."""
    return _overridden(dict(raw), where, {}, overrides, names or {})


def _overridden(
    raw: dict[str, Any],
    where: str,
    lines: Lines,
    overrides: Iterable[str],
    names: Mapping[str, str],
) -> Plan:
    origins: dict[str, str] = {}
    for override in overrides:
        flag = names.get(override, f"--set {override}")
        key = _override(raw, override, flag)
        origins[key] = flag
        if key in _space(raw) and SPACE + key not in origins:
            # Who gives a field a value does not want it searched; the plan's lines list the rest.
            _override(raw, f"{SPACE}{key}=null", flag)
    return _validate(raw, where, lines, origins)


def find_config(name: str | Path) -> Path:
    """The file of a config: the path itself, or a config of the package by its bare name.

    Raises:
        PlanError: neither exists.
    """
    path = as_path(name)
    try:
        if path.is_file():
            return path
    except OSError as error:
        raise PlanError(f"--config {name}: can't be read: {error.strerror}") from None
    shipped = {file.stem: file for file in sorted(config_folder().glob("*.yaml"))}
    if str(name) in shipped:
        return shipped[str(name)]
    known = f"; configs that ship with the package: {', '.join(shipped)}" if shipped else ""
    raise PlanError(f"--config {name}: there is no such file{_hint(str(name), shipped)}{known}")


def config_folder() -> Path:
    """Where the shipped configs lie: in the wheel in the package, in a checkout beside it."""
    package = Path(__file__).parent.parent
    packaged = package / "configs"
    return packaged if packaged.is_dir() else package.parent / "configs"


def _space(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The space that `raw` gives or leaves at its default; empty if it is none."""
    search = raw.get("search", {})
    default = SearchConfig.model_fields["space"].default
    space = search.get("space", default) if isinstance(search, dict) else {}
    return space if isinstance(space, dict) else {}


def _override(raw: dict[str, Any], override: str, where: str) -> str:
    """Put one `key=value` into `raw`; returns the key."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise PlanError(f"{where}: give key=value, such as --set optim.lr=0.1")
    value, _ = parse_yaml(text, where)
    if key.startswith(SPACE):
        sections, last = ["search", "space"], key.removeprefix(SPACE)
        search = raw.setdefault("search", {})
        if isinstance(search, dict):
            search.setdefault("space", dict(SearchConfig.model_fields["space"].default))
    elif key in known_fields():
        *sections, last = key.split(".")
    else:
        raise PlanError(f"{where}: {key} is not a field of the plan{_hint(key, known_fields())}")
    target: Any = raw
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise PlanError(f"{where}: {section} is {target!r} in the config, not a section")
    if key.startswith(SPACE) and value is None:
        target.pop(last, None)
    else:
        target[last] = value
    return key


def _validate(raw: Mapping[str, Any], where: str, lines: Lines, origins: Mapping[str, str]) -> Plan:
    place = partial(_place, where=where, lines=lines, origins=origins)
    try:
        plan = Plan.model_validate(raw)
    except ValidationError as error:
        raise PlanError("\n".join(_explain(item, place) for item in _merged(error))) from None
    try:
        _check_space(plan)
    except SpaceError as error:
        raise PlanError(f"{place(('search', 'space', error.field))}: {error}") from None
    _check_points(plan, place)
    return _absolute(plan)


def _place(
    path: tuple[int | str, ...], *, where: str, lines: Lines, origins: Mapping[str, str]
) -> str:
    """Where a field was given: the flag that did last, or the file and line, or the file."""
    for length in range(len(path), 0, -1):
        name = ".".join(str(part) for part in path[:length])
        if name in origins:
            return origins[name]
        if path[:length] in lines:
            return f"{where}:{lines[path[:length]]}"
    return where


def _absolute(plan: Plan) -> Plan:
    """Ray changes the working directory in a trial, so no relative path may get there."""
    data, search = plan.data, plan.search
    if data.path is not None:
        data = data.model_copy(update={"path": _absolute_path(data.path)})
    if isinstance(search.start_from, str):
        path = _absolute_path(search.start_from)
        search = search.model_copy(update={"start_from": path})
    resources = plan.resources
    if resources.storage_path is not None:
        path = _absolute_path(resources.storage_path)
        resources = resources.model_copy(update={"storage_path": path})
    out = _absolute_path(plan.out)
    return plan.model_copy(
        update={"out": out, "data": data, "search": search, "resources": resources}
    )


def _absolute_path(path: str) -> str:
    if "://" in path:
        return path
    return os.path.abspath(os.path.expanduser(path))


def _check_space(plan: Plan) -> None:
    """Every searched field exists, may be searched, and takes every value that can be drawn."""
    searchable = [
        name for name in known_fields(RunConfig) if "." in name and name not in NOT_SEARCHABLE
    ]
    if not plan.search.space:
        raise SpaceError("", "is empty; give at least one field to search")
    for field in plan.search.space:
        if field not in searchable:
            known = "can't be searched" if field in known_fields() else "is not a field of a run"
            raise SpaceError(field, known + _hint(field, searchable))
    for dimension in plan.search.parsed_space:
        for value in dimension.values or _ends(dimension.kind, dimension.low, dimension.high):
            try:
                plan.with_values({dimension.field: value}, seed=0)
            except ValidationError as error:
                rule = error.errors()[0]["msg"].lower()
                raise SpaceError(dimension.field, f"can give {value!r}; {rule}") from None


def _check_points(plan: Plan, place: Callable[[tuple[int | str, ...]], str]) -> None:
    """Known good points lie in the space; a folder is read later, when the search starts."""
    points, path = plan.search.start_from, ("search", "start_from")
    if not isinstance(points, list):
        return
    if not points:
        raise PlanError(
            f"{place(path)}: search.start_from is []; give at least one point, or leave it out"
        )
    for number, point in enumerate(points):
        where = f"{place((*path, number))}: search.start_from, point {number + 1} of {len(points)}"
        if not point:
            raise PlanError(f"{where}, is {{}}; give at least one `field: value`, or take it out")
        try:
            check_point(plan.search.parsed_space, point)
        except SpaceError as error:
            raise PlanError(f"{where}: {error}") from None


def _ends(kind: str, low: float, high: float) -> tuple[Value, ...]:
    return (int(low), int(high)) if kind in ("int", "logint") else (float(low), float(high))


def _merged(error: ValidationError) -> list[dict[str, Any]]:
    """One error a field: a union reports one for each member, whose names end its location."""
    by_field: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for item in error.errors():
        by_field.setdefault(_field_path(item["loc"]), []).append(dict(item))
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


def _field_path(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """`location` without the names of union members that pydantic appends."""
    if location[:2] == ("search", "space"):
        return location[:3]
    depth, section = 0, Plan
    while depth < len(location):
        info = section.model_fields.get(str(location[depth]))
        depth += 1
        if info is None or not (isinstance(info.annotation, type) and _is_section(info.annotation)):
            break
        section = info.annotation
    return location[:depth]


def _is_section(annotation: type) -> bool:
    return issubclass(annotation, Section)


def _explain(item: Mapping[str, Any], place: Callable[[tuple[int | str, ...]], str]) -> str:
    path = item["loc"]
    name = ".".join(str(part) for part in path)
    if item["type"] == "extra_forbidden":
        hint = _hint(name, known_fields())
        return f"{place(path)}: {name} is not a field of the plan{hint}"
    rule = str(item["msg"]).replace("Input should be", "it must be").removeprefix("Value error, ")
    rule = rule[0].lower() + rule[1:]
    verb = "" if rule.startswith("is ") else f"is {item['input']!r}; "
    given = str(item["input"])
    meant = own_searcher(given).meant() if path == ("search", "searcher") else ""
    return f"{place(path)}: {name} {verb}{rule}{meant or _hint(given, _literals(path))}"


def _literals(path: tuple[Any, ...]) -> list[str]:
    """The words that the field at `path` takes, if it takes words."""
    annotation: Any = Plan
    for part in path:
        fields = getattr(annotation, "model_fields", {})
        annotation = fields[part].annotation if part in fields else None
    members = [annotation, *get_args(annotation)]
    return [value for member in members for value in get_args(member) if isinstance(value, str)]


def _hint(word: str, known: Iterable[str]) -> str:
    """The nearest known name; for a dotted name also one that differs only in its section."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    last = word.rpartition(".")[2]
    near = near or [name for name in names if name.rpartition(".")[2] == last][:1]
    return f"; did you mean {near[0]}?" if near else ""
