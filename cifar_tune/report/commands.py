"""What one may want to do next with a results folder, and how it was started, as commands."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from cifar_tune.files import BEST, FINALS, MODEL, WINNER
from cifar_tune.plan.abilities import Exports
from cifar_tune.plan.task import task_of
from cifar_tune.record.journal import resume_command
from cifar_tune.record.results import Results
from cifar_tune.record.tables import confirm_best, finals_of


def commands_of(results: Results) -> dict[str, str]:
    """The commands by what they do."""
    folder, plan = shlex.quote(str(results.folder)), results.plan
    saved = shlex.quote(str(results.folder / "plan.yaml"))
    again = shlex.quote(f"{results.folder.name}-again")
    commands = {}
    task = task_of(plan)
    if isinstance(task, Exports) and (results.folder / BEST / MODEL).is_file():
        commands["use"] = task.use(results.folder)
    if not results.finished:
        commands["resume"] = resume_command(results.folder)
    commands |= {
        "extend": f"cifar-tune extend {folder} --num-samples +{plan.search.num_samples}",
        "confirm": confirm_best(results),
        "repeat": f"cifar-tune tune --config {saved} --name {again}",
        "report": f"cifar-tune report {folder}",
    }
    if results.counts()["failed"]:
        commands["retry"] = f"cifar-tune retry-failed {folder}"
    return {**commands, **_starts(results)}


def final_model(results: Results) -> str | None:
    """The command that uses a final model, where `best/` is not one.

    In folders of earlier versions it holds the winner of the search in spite of finals.
    """
    finals = finals_of(results)
    if finals is None or len(finals["seeds"]) < 2 or (results.folder / WINNER).is_dir():
        return None
    task = task_of(results.plan)
    return task.use(results.folder / FINALS / "seed-1") if isinstance(task, Exports) else None


def _starts(results: Results) -> dict[str, str]:
    """The command of each start of the search; equal ones that follow each other stand once."""
    given = [(_as_given(one.command), one.number) for one in results.starts if one.command]
    if len(results.starts) == 1 and given:
        return {"started as": given[0][0]}
    commands = {}
    for line, group in groupby(given, key=itemgetter(0)):
        numbers = [number for _, number in group]
        first, last = numbers[0], numbers[-1]
        commands[f"start {first}" if first == last else f"starts {first} to {last}"] = line
    return commands


def _as_given(words: Sequence[str]) -> str:
    """A recorded command as a shell takes it; `python -m` leaves the path of the module."""
    if words[0].endswith("cifar_tune/tune.py"):
        return shlex.join(["python", "-m", "cifar_tune.tune", *words[1:]])
    return shlex.join(words)
