"""Goes on with a search: as it is, extended, or with its failed trials."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cifar_tune.errors import DataError, ResultsError
from cifar_tune.files import BEST, FINALS, RAY, WINNER, linked
from cifar_tune.finals.candidates import check_named
from cifar_tune.plan import preflight
from cifar_tune.plan.config import Plan
from cifar_tune.plan.machine import Machine, Share
from cifar_tune.plan.section import budget_seconds
from cifar_tune.plan.task import Data, Say, task_of
from cifar_tune.record.journal import (
    Journal,
    Records,
    is_running,
    read_journal,
    resume_command,
)
from cifar_tune.record.recorder import Recorder
from cifar_tune.record.results import Results
from cifar_tune.record.warm_start import read_start_from
from cifar_tune.search.cluster import check_storage, nodes_for
from cifar_tune.search.session import Session
from cifar_tune.search.stop import ASKED_FOR, StopRequest
from cifar_tune.search.trainable import Objective, fit_objective
from cifar_tune.session.changes import grown, with_changes
from cifar_tune.session.outcome import finish, standing, way_on
from cifar_tune.session.start import (
    carry_out,
    record_start_from,
    session_of,
    storage_errors,
)


def resume_search(
    folder: Path,
    machine: Machine,
    say: Say,
    *,
    changes: Plan | None = None,
    objective: Objective = fit_objective,
) -> int:
    """Go on with the search in `folder`; returns the exit code.

    Args:
        folder: a results folder; only its journal and the checkpoints that this names are read.
        changes: a plan whose `FREE_SECTIONS` and `FREE_FIELDS` count from now on.

    Raises:
        CifarTuneError: as `start_search`; also if the data is not what it was.
    """
    with _open(folder, machine, say, changes, objective) as session:
        say(standing(session.results))
        return carry_out(session)


def judge_search(folder: Path, machine: Machine, say: Say, *, changes: Plan | None = None) -> None:
    """Say where the search in `folder` stands and what would go on; start and change nothing.

    Whether the data is what it was is told only by going on.

    Raises:
        CifarTuneError: what `resume_search` would refuse to go on with.
    """
    records = read_journal(folder)
    results = Results.from_records(folder, records)
    if is_running(folder):
        raise ResultsError(f"{folder} is in use by a search that is running; wait for it")
    with _settled(results, records, machine, say, changes):
        say(standing(results))
        for line in way_on(results):
            say(line)
        for line in task_of(results.plan).find(results.plan, recorded=results.data).sentences:
            say(line)


def retry_failed(folder: Path, machine: Machine, say: Say, *, changes: Plan | None = None) -> int:
    """Run the failed trials of a search again, and no others; else as `resume_search`.

    Raises:
        ResultsError: no trial has failed.
    """
    with _open(folder, machine, say, changes) as session:
        trials = session.results.trials.values()
        failed = [trial for trial in trials if trial.status == "failed"]
        if not failed:
            raise ResultsError(
                f"{folder} has no failed trial to try again; go on with it:"
                f" {resume_command(folder)}"
            )
        for trial in failed:
            name, kind, reason = trial.trial_id, trial.failures[-1], trial.reason
            say(f"{name} is tried again; it had failed ({kind}): {reason}")
            told = {"trial_id": name, "kind": kind, "reason": reason, "by_user": True}
            session.recorder.write("trial_retried", **told)
        return carry_out(session, only=[trial.trial_id for trial in failed])


def confirm_search(
    folder: Path,
    machine: Machine,
    say: Say,
    *,
    changes: Plan | None = None,
    again: bool = False,
    objective: Objective = fit_objective,
) -> int:
    """Hold the finals of the search in `folder`, finished or not; else as `resume_search`.

    With `again`, the test split may be opened once more, which is recorded.

    Raises:
        ResultsError: the test split was opened before, and `again` is not given.
        NoUsableTrialError: there is nothing to confirm.
    """
    with _open(folder, machine, say, changes, objective) as session:
        results, stop = session.results, StopRequest(None, session.resume_command)
        check_named(results)  # a name that is wrong is told before anything is done
        budget = session.plan.search.time_budget
        if results.unfinished() or not results.finished:
            say(f"{standing(results)} The finals compare what is known so far.")
            stop.ask(ASKED_FOR)
        left = None if budget is None else budget_seconds(budget)
        with storage_errors(folder), stop.on_signals():
            return finish(session, stop, seconds_left=left, asked=True, again=again)


def extend_search(folder: Path, machine: Machine, say: Say, *, wanted: Plan) -> int:
    """Give the search in `folder` more trials or longer trainings; else as `resume_search`.

    What is known stays known; completed trials train on from their checkpoints. `wanted` is the
    recorded plan with a larger `search.num_samples` or `train.max_epochs`.

    Raises:
        PlanError: nothing grows, or anything else differs that trials are compared by.
    """
    old_epochs = Results.read(folder).plan.train.max_epochs
    with _open(folder, machine, say, wanted, growing=True) as session:
        results, plan = session.results, session.plan
        session.recorder.write("extended", plan=plan.model_dump(mode="json"))
        epochs = plan.train.max_epochs
        say(
            f"The search grows to {plan.search.num_samples} trials of at most {epochs} epochs; if"
            f" it is interrupted, go on with: {resume_command(folder)}"
        )
        say(standing(results))
        if epochs > old_epochs:
            say(
                f"Trials that go on, completed ones included, train to epoch {epochs} instead of"
                f" {old_epochs}; a learning rate's schedule is computed anew for the new length,"
                " and jumps to where a training of that length would be."
            )
        return carry_out(session)


@contextmanager
def _open(
    folder: Path,
    machine: Machine,
    say: Say,
    changes: Plan | None,
    objective: Objective = fit_objective,
    *,
    growing: bool = False,
) -> Iterator[Session]:
    """Lock the folder, and make sure that its search can go on under this plan on this data."""
    with Journal(folder) as journal:
        recorder = Recorder(journal)
        results = recorder.results
        with _settled(results, journal.records, machine, say, changes, growing=growing) as share:
            data = task_of(results.plan).open(results.plan, say, recorded=results.data)
            _check_same_data(data, results)
            known = None if results.started_from else read_start_from(results.plan)
            if known is not None:  # a crash came between two lines
                record_start_from(recorder, known, data, say)
            with ExitStack() as ray:
                yield session_of(recorder, data, machine, share, say, objective, ray)


@contextmanager
def _settled(
    results: Results,
    records: Records,
    machine: Machine,
    say: Say,
    changes: Plan | None,
    *,
    growing: bool = False,
) -> Iterator[Share]:
    """Make sure that a search can go on, and settle its plan on what is there now.

    A cluster is joined as long as this lasts.
    """
    folder, recorded = results.folder, results.plan
    _check_links(folder)
    if records.torn_lines:
        say("The journal's last line was torn by a crash and is dropped.")
    wanted = changes or recorded
    changed = with_changes(grown(recorded, wanted) if growing else recorded, wanted)
    with nodes_for(changed, machine, say) as nodes:
        forecast = preflight.check(changed, nodes)
        check_storage(changed)
        results.plan = forecast.plan
        yield forecast.share


def _check_links(folder: Path) -> None:
    """What is not needed is deleted in these subfolders: a link in them would lead elsewhere."""
    link = linked(folder, RAY, FINALS, BEST, WINNER)
    if link is not None:
        raise ResultsError(
            f"{link} is a symbolic link, and files behind it might be deleted; put what it names in"
            " its place"
        )


def _check_same_data(data: Data, results: Results) -> None:
    recorded = results.data.get("fingerprint", "")
    if data.fingerprint != recorded:
        raise DataError(
            f"{data.facts['source']} has the fingerprint {data.fingerprint[:12]}, and the search"
            f" began on data with {recorded[:12]}; give that data, or start a new search"
        )
