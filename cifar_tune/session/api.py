"""Searches from Python, in a script or a notebook: a plan in, `Results` or a pandas frame out."""

from __future__ import annotations

import io
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_tune.plan.config import Plan
from cifar_tune.process import say
from cifar_tune.record.results import Results
from cifar_tune.record.tables import trials_csv

if TYPE_CHECKING:
    import pandas as pd


STEM = "search"  # a plan does not know the name of its file, which the command's folders have


def run_search(plan: Plan, *, quiet: bool = False) -> Results:
    """Search as `cifar-tune tune` does, and wait for the end.

    Results lie in the folder `plan.out`/`plan.name`; without a name in `search-<n>` there.

    Args:
        plan: as `load_plan` gives it.
        quiet: whether to print nothing.

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
    folder, code = launch(plan, (lambda _: None) if quiet else say, config=STEM)
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
