"""The way of a new search, from a plan to its outcome: for the command line and for Python."""

from __future__ import annotations

from pathlib import Path

from cifar_tune.plan import preflight
from cifar_tune.plan.config import Plan
from cifar_tune.plan.forecast import describe
from cifar_tune.plan.machine import Machine, read_machine
from cifar_tune.plan.task import Say, task_of
from cifar_tune.record.results import Results
from cifar_tune.record.warm_start import read_start_from
from cifar_tune.search.cluster import check_storage, nodes_for
from cifar_tune.session import folder as folders
from cifar_tune.session.changes import check_same_plan, with_recorded_methods


def launch(
    plan: Plan,
    say: Say,
    *,
    config: str | None = None,
    resume: bool = False,
    dry_run: bool = False,
    wait: bool = False,
) -> tuple[Path, int]:
    """Check a plan, then search; the order is plan, resources, results folder, data.

    Args:
        config: the plan's file or name, after which a search without a name is called.
        resume: whether a search that is there already goes on.
        dry_run: whether to say what would run, and stop.
        wait: whether to wait until a cluster has room.

    Returns:
        The results folder and the exit code.

    Raises:
        CifarTuneError: the plan can't be carried out, or no trial is usable.
    """
    machine = read_machine()
    if wait:
        preflight.check_waiting(plan)
    folder, begun = folders.results_folder(plan, config).absolute(), None
    if resume:
        folder = (folders.unfinished_folder(plan, config) or folder).absolute()
        begun = Results.read(folder) if folders.holds_search(folder) else None
    if begun is not None:
        plan = with_recorded_methods(plan, begun.plan)
    with nodes_for(plan, machine, say, wait=wait) as nodes:
        forecast = preflight.check(plan, nodes)
        if begun is not None:
            return folder, _go_on(begun, machine, say, plan, forecast.plan, dry_run=dry_run)
        folders.check_folder(folder)
        check_storage(plan)
        start_from = read_start_from(plan)
        known = [] if start_from is None else start_from.describe()
        found = task_of(plan).find(forecast.plan)
        for line in [*describe(forecast, found.sentences, folder, disk=dry_run), *known]:
            say(line)
        if dry_run:
            return folder, 0

        from cifar_tune.session.start import start_search  # it imports Ray

        def say_new(line: str) -> None:
            if line not in found.sentences:  # opening the data tells them once more
                say(line)

        return folder, start_search(forecast, folder, machine, say_new, start_from=start_from)


def _go_on(
    begun: Results, machine: Machine, say: Say, wanted: Plan, settled: Plan, *, dry_run: bool
) -> int:
    from cifar_tune.session.resume import judge_search, resume_search  # it imports Ray

    settled = task_of(settled).find(settled, recorded=begun.data).plan
    check_same_plan(begun.plan, wanted, settled)
    if dry_run:
        judge_search(begun.folder, machine, say, changes=wanted)
        return 0
    return resume_search(begun.folder, machine, say, changes=wanted)
