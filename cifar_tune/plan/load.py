"""Reads a plan: a YAML file, then overrides; every mistake becomes one line that helps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cifar_tune.errors import PlanError
from cifar_tune.files import as_path
from cifar_tune.plan.abilities import Suggests
from cifar_tune.plan.config import Plan
from cifar_tune.plan.mistakes import explain
from cifar_tune.plan.own_code import nearest
from cifar_tune.plan.points import check_point
from cifar_tune.plan.section import is_field, known_fields
from cifar_tune.plan.space import SpaceError
from cifar_tune.plan.strict_yaml import Lines, parse_yaml, read_yaml
from cifar_tune.plan.task import Say, find_task, task_of

SPACE = "search.space."
TASK, METRIC, MODE = "task", "search.metric", "search.mode"
OBJECTIVES = "search.objectives"
# Searching these would make trials incomparable: the epochs that early stopping counts in, the
# arithmetic of the machine. A task has more of them.
FIXED = frozenset({"train.max_epochs", "train.threads"})


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
    if config is None:
        return plan_from({}, "plan", overrides, names=names)
    path = find_config(config)
    loaded, lines = read_yaml(path)
    raw = {} if loaded is None else loaded
    if not isinstance(raw, dict):
        raise PlanError(f"{path}: holds {type(raw).__name__}; a plan is `key: value` lines")
    return _overridden(raw, _Origins(str(path), lines), overrides, names or {})


def plan_from(
    raw: Mapping[str, Any],
    where: str,
    overrides: Iterable[str] = (),
    *,
    names: Mapping[str, str] | None = None,
) -> Plan:
    """A plan from plain values that a program wrote, such as the journal's; else as `load_plan`."""
    return _overridden(dict(raw), _Origins(where, {}), overrides, names or {})


def suggested(overrides: Iterable[str], say: Say) -> tuple[str | None, list[str]]:
    """The config that the task suggests for what is given, and overrides of it; it is said."""
    given, suggestion = {}, None
    for override in overrides:
        key, _, text = override.partition("=")
        with contextlib.suppress(PlanError):  # which is told by `load_plan`
            given[key] = parse_yaml(text, override)[0]
    with contextlib.suppress(PlanError):
        task = find_task(str(given.get(TASK, Plan.model_fields[TASK].default)))
        suggestion = task.suggest(given, say) if isinstance(task, Suggests) else None
    if suggestion is None:
        return None, []
    own = suggestion.values.items()
    values = [f"{field}={value}" for field, value in own if field not in given]
    changed = f" with {', '.join(values)}" if values else ""
    say(f"config      {suggestion.config}{changed}, for {suggestion.suits}; --config takes another")
    return suggestion.config, values


@dataclass(frozen=True)
class _Origins:
    """Where each field was given: the flag that did last, or the file and line, or the file."""

    where: str
    lines: Lines
    flags: dict[str, str] = field(default_factory=dict)

    def __call__(self, path: tuple[int | str, ...]) -> str:
        for length in range(len(path), 0, -1):
            name = ".".join(str(part) for part in path[:length])
            if name in self.flags:
                return self.flags[name]
            if path[:length] in self.lines:
                return f"{self.where}:{self.lines[path[:length]]}"
        return self.where


def _overridden(
    raw: dict[str, Any], place: _Origins, overrides: Iterable[str], names: Mapping[str, str]
) -> Plan:
    given = [(one, names.get(one, f"--set {one}")) for one in overrides]
    kind = _kind_of(raw, place, given)
    for override, flag in given:
        key = _override(raw, override, flag, kind)
        place.flags[key] = flag
        if key in _space(raw, kind) and SPACE + key not in place.flags:
            # Who gives a field a value does not want it searched; the plan's lines list the rest.
            _override(raw, f"{SPACE}{key}=null", flag, kind)
    if METRIC in place.flags and MODE not in place.flags:
        raw["search"].pop("mode", None)  # it was that of another metric
    if OBJECTIVES in place.flags and not {METRIC, MODE} & place.flags.keys():
        for name in ("metric", "mode"):  # the first objective is the metric
            raw["search"].pop(name, None)
    try:
        plan = kind.model_validate(raw)
        _check_space(plan)
    except ValidationError as error:
        raise PlanError(explain(error, kind, place)) from None
    except SpaceError as error:
        raise PlanError(f"{place(('search', 'space', error.field))}: {error}") from None
    _check_points(plan, place)
    return plan


def _kind_of(raw: dict[str, Any], place: _Origins, given: Iterable[tuple[str, str]]) -> type[Plan]:
    """The class of the plan, by the task that it names: what else it may say depends on that."""
    for override, flag in given:
        key, _, text = override.partition("=")
        if key == TASK:
            raw[TASK], place.flags[TASK] = parse_yaml(text, flag)[0], flag
    name = raw.get(TASK, Plan.model_fields[TASK].default)
    if not isinstance(name, str):
        raise PlanError(f"{place((TASK,))}: task is {name!r}; give the name of a task")
    try:
        return find_task(name).Plan
    except PlanError as error:
        raise PlanError(f"{place((TASK,))}: {error}") from None


def find_config(name: str | Path) -> Path:
    """The file of a config, by its path or by its bare name in the package; else a PlanError."""
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
    raise PlanError(f"--config {name}: there is no such file{nearest(str(name), shipped)}{known}")


def config_folder() -> Path:
    """Where the shipped configs lie: in the wheel in the package, in a checkout beside it."""
    package = Path(__file__).parent.parent
    packaged = package / "configs"
    return packaged if packaged.is_dir() else package.parent / "configs"


def _default_space(kind: type[Plan]) -> dict[str, Any]:
    return dict(kind.model_fields["search"].get_default().space)


def _space(raw: Mapping[str, Any], kind: type[Plan]) -> Mapping[str, Any]:
    """The space that `raw` gives or leaves at its default; empty if it is none."""
    search = raw.get("search", {})
    space = search.get("space", _default_space(kind)) if isinstance(search, dict) else {}
    return space if isinstance(space, dict) else {}


def _override(raw: dict[str, Any], override: str, where: str, kind: type[Plan]) -> str:
    """Put one `key=value` into `raw`; returns the key."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise PlanError(f"{where}: give key=value, such as --set search.num_samples=8")
    value, _ = parse_yaml(text, where)
    if key.startswith(SPACE):
        sections, last = ["search", "space"], key.removeprefix(SPACE)
        search = raw.setdefault("search", {})
        if isinstance(search, dict):
            search.setdefault("space", _default_space(kind))
    elif is_field(kind, key):
        *sections, last = key.split(".")
    else:
        near = nearest(key, known_fields(kind))
        raise PlanError(f"{where}: {key} is not a field of the plan{near}")
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


def _check_space(plan: Plan) -> None:
    """Every searched field exists, may be searched, and takes every value that can be drawn."""
    task, kind = task_of(plan), type(plan).run_class()
    fixed = task.fixed | FIXED
    searchable = [name for name in known_fields(kind) if "." in name and name not in fixed]
    for name in plan.search.space:
        if "." not in name or name in fixed or not is_field(kind, name):
            fault = "can't be searched" if is_field(type(plan), name) else "is not a field of a run"
            raise SpaceError(name, fault + nearest(name, searchable))
    for dimension in plan.search.parsed_space:
        for value in dimension.values or dimension.ends:
            try:
                plan.with_values({dimension.field: value}, seed=0)
            except ValidationError as error:
                rule = error.errors()[0]["msg"].lower()
                raise SpaceError(dimension.field, f"can give {value!r}; {rule}") from None


def _check_points(plan: Plan, place: _Origins) -> None:
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
