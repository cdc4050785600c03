"""Searches from Python, in a script or a notebook: a plan in, `Results` or a pandas frame out."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_tune.errors import PlanError
from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import plan_from
from cifar_tune.plan.section import Mode, put
from cifar_tune.plan.space import Value
from cifar_tune.process import say
from cifar_tune.record.results import Results
from cifar_tune.record.tables import trials_csv

if TYPE_CHECKING:
    import pandas as pd


STEM = "search"  # a plan does not know the name of its file, which the command's folders have


def tune_module(
    module: type[Any] | str,
    datamodule: type[Any] | str | None = None,
    *,
    space: Mapping[str, Any],
    metric: str,
    mode: Mode,
    num_samples: int = 16,
    max_epochs: int = 9,
    plan: Mapping[str, Any] | None = None,
    name: str | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Results:
    """Search the hyperparameters of a LightningModule, as it is, and wait for the end.

    Args:
        module: a LightningModule's class, or its name as package.module:Class. One of a notebook
            must stand at the top of a cell.
        datamodule: a LightningDataModule's class, or its name; none: the module has its loaders.
        space: searched fields, as `{"model.lr": {"loguniform": [1e-4, 1e-1]}}`: model.NAME and
            data.NAME are arguments of the two, trainer.NAME those of Lightning's Trainer.
        metric: what the trials are judged by: any scalar that a validation logs.
        mode: whether more (max) or less (min) of it is better.
        plan: any other fields of a plan, as `{"model.hidden": 64, "finals.seeds": 3}`.
        name: of the results folder in `results`; none: `search-<n>`.
        resume: whether a search of this name, or the newest without one, goes on if it is there.
        quiet: whether to print nothing.

    Returns:
        The search, as `run_search`.

    Raises:
        CifarTuneError, KeyboardInterrupt, SystemExit: as `run_search`.
    """
    raw: dict[str, Any] = {
        "task": "lightning",
        "model": {"class_path": _name_of(module)},
        "data": {} if datamodule is None else {"class_path": _name_of(datamodule)},
        "train": {"max_epochs": max_epochs},
        "search": {"metric": metric, "mode": mode, "num_samples": num_samples, "space": {**space}},
    }
    for field, entry in space.items():
        _check_plain(f"search.space.{field}", entry)
    for field, value in (plan or {}).items():
        _check_plain(field, value)
        put(raw, field, value)
    if name is not None:
        raw["name"] = name
    return run_search(plan_from(raw, "tune_module"), quiet=quiet, resume=resume)


def _name_of(kind: type[Any] | str) -> str:
    """The name by which a class is found again; a PlanError if it has none."""
    if isinstance(kind, str):
        return kind
    if not isinstance(kind, type):
        raise PlanError(f"{kind!r} is no class; pass the class itself, not one that is made")
    place, name = kind.__module__, kind.__qualname__
    if getattr(sys.modules.get(place), name, None) is not kind:
        raise PlanError(
            f"{name} of {place} is not found by that name (it is defined in a function, or was"
            " defined anew since); define it at the top of a file or of a notebook's cell, and pass"
            " that"
        )
    return f"{place}:{name}"


def _check_plain(field: str, value: Any) -> None:
    """A PlanError unless the journal can hold a value."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_plain(f"{field}.{key}", inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_plain(field, inner)
    elif not isinstance(value, Value):
        raise PlanError(
            f"{field} is {value!r:.80}, of {type(value).__name__}; a plan holds plain values, which"
            " a journal can keep: give numbers, words or lists, or an object as"
            " {'class_path': 'package.module.Class', 'init_args': {...}}"
        )


def run_search(plan: Plan, *, quiet: bool = False, resume: bool = False) -> Results:
    """Search as `cifar-tune tune` does, and wait for the end.

    Results lie in the folder `plan.out`/`plan.name`; without a name in `search-<n>` there.

    Args:
        plan: as `load_plan` gives it.
        quiet: whether to print nothing.
        resume: whether a search that is there already goes on; without a name the newest one, if it
            did not end.

    Returns:
        The search. Trials may have failed (`results.counts()`), and a time budget may have left it
        unfinished (`results.finished`).

    Raises:
        CifarTuneError: as the command's message has it: the plan can't be carried out, the data is
            not there, the folder is taken, no trial is usable, the storage is full.
        KeyboardInterrupt, SystemExit: a signal stopped it, after all was saved.
    """
    from cifar_tune.session.launch import launch

    if quiet:
        tracking = plan.tracking.model_copy(update={"quiet": True})
        plan = plan.model_copy(update={"tracking": tracking})
    show = (lambda _: None) if quiet else say
    folder, code = launch(plan, show, config=STEM, resume=resume)
    _pass_on_signal(code, folder)
    return Results.read(folder)


def _pass_on_signal(code: int, folder: Path) -> None:
    """A caller's loop over plans must end as well."""
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt(
            f"everything reported is saved: cifar_tune.Results.read({folder!r})"
        )
    if code > 128:  # another signal
        raise SystemExit(code)


def frame(results: Results) -> pd.DataFrame:
    """The trials as a pandas frame: rows and columns of `trials.csv`, fractions in full.

    A field that a trial has not (`when`), or a figure that it never reported, is missing there.
    """
    import pandas as pd

    # Words such as 32 and none stay words.
    words = {
        dimension.field: str
        for dimension in results.plan.search.parsed_space
        if any(isinstance(value, str) for value in dimension.values)
    }
    return pd.read_csv(
        io.StringIO(trials_csv(results, exact=True)),
        dtype={"best_epoch": "Int64", **words},
        keep_default_na=False,
        na_values=[""],
    )
