"""Classes of the user's own: found by name, their arguments checked, and made, by jsonargparse."""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from copy import deepcopy
from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import (
    LRSchedulerCallable,
    LRSchedulerTypeTuple,
    OptimizerCallable,
    instantiate_class,
)

from cifar_tune.errors import CifarTuneError, PlanError, one_line
from cifar_tune.lit.aliases import install
from cifar_tune.lit.cli_file import SETTLED
from cifar_tune.lit.config import LitRun, arguments_of
from cifar_tune.plan.own_code import OwnCode, nearest
from cifar_tune.plan.space import Value

FLAG = {"model": "--module", "data": "--datamodule"}
KIND = {"model": LightningModule, "data": LightningDataModule}


def own_code(section: str, name: str) -> OwnCode:
    """What `model.class_path` or `data.class_path` names."""
    kind = {"model": "module", "data": "data module"}[section]
    function = {"model": "LitModel", "data": "MyData"}[section]
    field = f"{section}.class_path"
    return OwnCode(kind=kind, field=field, name=name, function=function, parameters=())


def find_class(section: str, name: str) -> type[Any]:
    """The class of this name.

    Raises:
        PlanError: there is none, or it is no LightningModule or LightningDataModule.
    """
    install()
    own, kind = own_code(section, name), KIND[section]
    found = own.find()
    if not isinstance(found, type) or not issubclass(found, kind):
        what = found.__name__ if isinstance(found, type) else type(found).__name__
        base = getattr(found, "__bases__", (object,))[0].__name__ if isinstance(found, type) else ""
        raise own.error(
            f", which is {f'a {base} named {what}' if base else what}; {FLAG[section]} names a"
            f" subclass of lightning.pytorch.{kind.__name__}"
            + _of_the_other_lightning(found, kind.__name__)
        )
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))  # type: ignore[attr-defined]
        raise own.error(f", which is abstract: it lacks {missing}; name a class that has all")
    return found


def _of_the_other_lightning(found: Any, kind: str) -> str:
    """A hint for a class of the package `pytorch_lightning` itself, whose Trainer is another."""
    bases = getattr(found, "__mro__", ())
    if not any(base.__module__.startswith("pytorch_lightning") for base in bases):
        return ""
    return (
        f"; it is a pytorch_lightning.{kind}, and that package was imported before this one could"
        " stand in for it: import lightning.pytorch as pl instead"
    )


def check_arguments(run: LitRun, classes: Mapping[str, type[Any]]) -> None:
    """Check all arguments of one training by signature and annotation; nothing is made.

    Raises:
        PlanError: with value, rule and remedy.
    """
    for section, kind in classes.items():
        _parsed(section, kind, arguments_of(getattr(run, section)))
    trainer_arguments(run)


def make(section: str, kind: type[Any], run: LitRun) -> Any:
    """The user's module or data module with its arguments; a PlanError if it raises."""
    given = arguments_of(getattr(run, section))
    parser, parsed, more = _parsed(section, kind, given)
    own = own_code(section, str(getattr(run, section).class_path))
    with own.guarded("making it"):
        made = parser.instantiate(parsed).get(section)  # classes among the arguments
        untyped = _untyped(kind)
        arguments = {
            # A word stays a word where nothing says that it is another value.
            name: given[name] if name in untyped and isinstance(given[name], Value) else made[name]
            for name in given.keys() - more.keys()
        }
        return kind(**arguments, **more)


def trainer_arguments(run: LitRun) -> dict[str, Any]:
    """What the plan gives Lightning's Trainer, as plain values.

    Raises:
        PlanError: an argument is not the user's, or not the Trainer's.
    """
    given = arguments_of(run.trainer)
    for name in given:
        if name in SETTLED:
            raise PlanError(f"trainer.{name} is {given[name]!r}; leave it out: {SETTLED[name]}")
    _parsed("trainer", Trainer, given)
    return given


def make_trainer_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with callbacks and loggers made."""
    parser, parsed, _ = _parsed("trainer", Trainer, given)
    made = parser.instantiate(parsed)["trainer"]
    return {name: made[name] for name in given}


def make_by_path(
    section: str, given: Mapping[str, Any], class_path: str, base: Any, *first: Any
) -> Any:
    """An optimizer or a schedule by the path of its class; `first` are its leading arguments."""
    parser = ArgumentParser(exit_on_error=False)
    skip = {"params" if section == "optimizer" else "optimizer"}
    parser.add_subclass_arguments(base, section, skip=skip, instantiate=False, fail_untyped=False)
    with _explained(section, given):
        parsed = parser.parse_object({section: {"class_path": class_path, "init_args": given}})
        return instantiate_class(first, parsed[section].as_dict())


def _parsed(
    section: str, kind: type[Any], given: Mapping[str, Any]
) -> tuple[ArgumentParser, Namespace, dict[str, Any]]:
    """The parser of a class's arguments, what it made of them, and what only `**kwargs` takes."""
    parser = ArgumentParser(exit_on_error=False)
    made_later = _made_later(kind) if section == "model" else {}
    known = parser.add_class_arguments(
        kind, section, fail_untyped=False, instantiate=False, skip=set(made_later)
    )
    for name, annotation in made_later.items():
        parser.add_argument(f"--{section}.{name}", type=annotation | None, default=None)
    names = [*(name.removeprefix(f"{section}.") for name in known), *made_later]
    rest: dict[str, Any] = {}
    if _takes_any(kind, names):
        rest = {name: value for name, value in given.items() if name not in names}
    # A copy, for the parser changes what it reads.
    mine = {name: deepcopy(value) for name, value in given.items() if name not in rest}
    for name in mine:
        if name not in names:
            raise PlanError(_unknown(section, kind, name, names, given[name]))
    with _explained(section, given):
        return parser, parser.parse_object({section: mine} if mine or names else {}), rest


def _made_later(kind: type[Any]) -> dict[str, Any]:
    """Arguments that are said to be an optimizer or a schedule, with what they must be instead.

    Nobody has one before there are parameters: modules that are configured by Hydra say so, and
    get what makes one (Hydra's `_partial_`).
    """
    later: dict[str, Any] = {}
    for name, one in _signature(kind).parameters.items():
        said = one.annotation
        if isinstance(said, type) and issubclass(said, torch.optim.Optimizer):
            later[name] = OptimizerCallable
        elif said is torch.optim.lr_scheduler or said in LRSchedulerTypeTuple:
            later[name] = LRSchedulerCallable
    return later


def _untyped(kind: type[Any]) -> set[str]:
    return {
        name for name, one in _signature(kind).parameters.items() if one.annotation is one.empty
    }


def _signature(kind: type[Any]) -> inspect.Signature:
    """Of `__init__`, with its annotations as types where their names can be found."""
    try:
        return inspect.signature(kind.__init__, eval_str=True)
    except (NameError, TypeError, AttributeError, SyntaxError):
        return inspect.signature(kind.__init__)


def _takes_any(kind: type[Any], names: list[str]) -> bool:
    """Whether `__init__` has a `**kwargs` of which nothing more can be known."""
    parameters = _signature(kind).parameters.values()
    named = {
        one.name for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    }
    return any(one.kind == one.VAR_KEYWORD for one in parameters) and set(names) <= named


def _unknown(section: str, kind: type[Any], name: str, names: list[str], value: Any) -> str:
    known = ", ".join(f"{section}.{one}" for one in names) or "no arguments"
    nested = [one for one in names if one in ("hparams", "config", "cfg", "params", "args")]
    hint = nearest(name, names)
    if not hint and nested:
        hint = f"; inside of it, give {section}.{nested[0]}.{name}"
    where = f"{kind.__name__}.__init__ takes {known}"
    return f"{section}.{name} is {value!r}, and there is no such argument: {where}{hint}"


@contextmanager
def _explained(section: str, given: Mapping[str, Any]) -> Iterator[None]:
    """Turn what jsonargparse says into one line with the value."""
    try:
        with redirect_stderr(io.StringIO()):
            yield
    except CifarTuneError:
        raise
    except (ArgumentError, TypeError, ValueError, ImportError, AttributeError, KeyError) as error:
        text = one_line(error)
        missing = re.search(r"arguments? (?:is|are) required: ([\w., ]+)", text)
        if missing:
            raise PlanError(
                f"{missing[1]} has no default and no value; give --set {missing[1].split(',')[0]}="
                "VALUE, or search it with --set search.space.NAME=…"
            ) from None
        found = re.search(r'Parser key "([\w.]+)": ?(.*)', text)
        key, rule = (found[1], found[2]) if found else (section, text)
        value = given.get(key.partition(".")[2].partition(".")[0], given)
        raise PlanError(f"{key} is {value!r}; {rule[0].lower()}{rule[1:]}") from None
