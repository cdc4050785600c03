"""The flags of a search: each names a field of the plan, which has its help and its default."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from pydantic.fields import FieldInfo

from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import load_plan, plan_from, suggested
from cifar_tune.plan.section import Flag, Section, known_fields
from cifar_tune.plan.task import TASKS, Say, find_task

# What a search that goes on may change: where and how it runs, not what it compares.
FREE_FIELDS = frozenset({
    "search.time_budget", "search.max_failures", "search.checkpoint_every_epochs",
    "search.checkpoint_every_seconds", "search.fail_fast", "search.trial_timeout",
})  # fmt: skip
FREE_SECTIONS = ("finals", "resources", "tracking")


@dataclass(frozen=True, kw_only=True)
class FieldFlag:
    """A flag and the field that it names; `metavar` is none where the flag alone says true.

    `is_word`: the value is a word whatever it looks like, so that YAML must not read a number.
    `task`: the only one that has it, which it then asks for; none: the default one has it.
    """

    field: str
    metavar: str | None
    help: str
    is_word: bool
    task: str | None = None


def field_flags(section: type[Section], task: str | None = None) -> dict[str, FieldFlag]:
    return {
        flag.name or f"--{field.rpartition('.')[2].replace('_', '-')}": FieldFlag(
            field=field,
            metavar=flag.metavar,
            help=_help(info),
            is_word=str in (info.annotation, *get_args(info.annotation)),
            task=task,
        )
        for field, info in known_fields(section).items()
        for flag in info.metadata
        if isinstance(flag, Flag)
    }


def _help(info: FieldInfo) -> str:
    """The field's own sentence, with its default where the sentence does not tell it."""
    text = " ".join((info.description or "").split()).rstrip(".").replace("`", "")
    default = info.default
    if default in (None, "auto", "") or not isinstance(default, (int, float, str)):
        return text
    return f"{text} ({'off' if default is False else default})"


def _all_flags() -> dict[str, FieldFlag]:
    """Those of the default task, then what only others have."""
    default = Plan.model_fields["task"].default
    flags = field_flags(find_task(default).Plan)
    for name in TASKS.keys() - {default}:
        flags = {**field_flags(find_task(name).Plan, name), **flags}
    return flags


FLAGS = _all_flags()


def add_plan_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--config`, `--set` and all flags that name fields."""
    parser.add_argument("--config", metavar="FILE", help="a plan, or the name of one that ships")
    add_set(parser)
    add_flags(parser, [name for name in FLAGS if name != "--trials"])  # there are none yet


def add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change any field of the plan; repeatable; a flag of its own wins over it",
    )


def add_flags(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    for name in names:
        flag = FLAGS[name]
        if flag.metavar is None:
            parser.add_argument(name, action="store_const", const="true", help=flag.help)
        else:
            parser.add_argument(name, metavar=flag.metavar, help=flag.help)


def resume_flags() -> list[str]:
    """The flags of a search that goes on; what its finals are has a command of its own."""
    places, free = ("resources", "tracking"), FREE_FIELDS.union(*(find_task(t).free for t in TASKS))
    return [
        name
        for name, flag in FLAGS.items()
        if flag.field in free or flag.field.partition(".")[0] in places
    ]


def plan_of(arguments: argparse.Namespace, say: Say) -> Plan:
    """The plan that parsed flags ask for; a PlanError names the flag.

    Where they name no config, `arguments` get the one that the task suggests, if it does.
    """
    given = overrides_of(arguments)
    overrides = [*arguments.set, *given]
    if arguments.config is None:
        arguments.config, values = suggested(overrides, say)
        overrides = [*values, *overrides]
    return load_plan(arguments.config, overrides, names=given)


def change_plan(plan: Plan, arguments: argparse.Namespace) -> Plan:
    """A recorded plan with flags of this start; a PlanError names the flag.

    A time budget, `--fail-fast` and `--quiet` count for one start only. `--num-samples +20` and
    `--final-seeds +5` mean so many more than recorded.
    """
    raw = plan.model_dump(mode="json")
    raw["search"].update(time_budget=None, fail_fast=False)
    raw["tracking"].update(quiet=False)
    recorded = {"num_samples": plan.search.num_samples, "final_seeds": plan.finals.seeds}
    for name, number in recorded.items():
        more = getattr(arguments, name, None) or ""
        if more.startswith("+") and more[1:].isdecimal():
            setattr(arguments, name, str(number + int(more[1:])))
    given = overrides_of(arguments)
    sets = getattr(arguments, "set", [])
    return plan_from(raw, "the recorded plan", [*sets, *given], names=given)


def overrides_of(arguments: argparse.Namespace) -> dict[str, str]:
    """Overrides of the flags that were given, each with the flag as its user wrote it."""
    given = dict[str, str]()
    for name, flag in FLAGS.items():
        text = getattr(arguments, name.removeprefix("--").replace("-", "_"), None)
        if text is not None:
            if flag.task is not None:
                given[f"task={flag.task}"] = name
            value = json.dumps(text, ensure_ascii=False) if flag.is_word else text
            given[f"{flag.field}={value}"] = name if flag.metavar is None else f"{name} {text}"
    return given
