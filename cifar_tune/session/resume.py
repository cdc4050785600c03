"""Goes on with a search: as it is, extended, or with its failed trials."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_tune.errors import DataError, PlanError, ResultsError
from cifar_tune.files import BEST, FINALS, RAY, linked
from cifar_tune.plan import preflight
from cifar_tune.plan.config import Plan, budget_seconds
from cifar_tune.plan.load import plan_from
from cifar_tune.plan.machine import Machine, Share
from cifar_tune.record.journal import Journal, Records, is_running, read_journal
from cifar_tune.record.results import Recorder, Results, Say
from cifar_tune.record.warm_start import read_start_from
from cifar_tune.search.bohb import NOT_RESUMABLE
from cifar_tune.search.cluster import check_storage, nodes_for
from cifar_tune.search.stop import ASKED_FOR, StopRequest
from cifar_tune.search.trainable import Objective, fit_objective
from cifar_tune.session.outcome import finish, resume_command, standing, way_on
from cifar_tune.session.start import (
    carry_out,
    load_data,
    record_start_from,
    storage_errors,
    workplace,
)
from cifar_tune.vision.data import Dataset, SearchData

# What a resumed search may change: where and how it runs, not what it compares.
FREE_FIELDS = {
    "data.path", "data.fallback", "search.time_budget", "search.max_failures",
    "search.checkpoint_every_epochs", "search.fail_fast", "search.trial_timeout",
}  # fmt: skip
FREE_SECTIONS = ("finals", "resources", "tracking")
PLACE = {"name", "out"}  # the folder itself is the search, wherever it was moved
GROWING = {"search.num_samples", "train.max_epochs"}  # what `extend` is for


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """A search that is about to go on: locked, its plan settled, its data loaded and compared.

    `recorded_plan` is what the journal has; the results have the one that counts from now on.
    """

    recorded_plan: Plan
    recorder: Recorder
    dataset: Dataset
    data: SearchData
    share: Share


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
        machine: this machine.
        say: shows a line.
        changes: a plan whose `FREE_SECTIONS` and `FREE_FIELDS` count from now on.
        objective: what trains.

    Raises:
        CifarTuneError: as `start_search`; also if the data is not what it was.
    """
    with _open(folder, machine, say, changes) as opened:
        say(standing(opened.recorder.results))
        return _carry_out(opened, machine, say, objective)


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
        drawn = ("The drawn set is drawn anew.",)
        for line in drawn if results.drawn else preflight.check_data(results.plan).sentences:
            say(line)


def retry_failed(
    folder: Path,
    machine: Machine,
    say: Say,
    *,
    changes: Plan | None = None,
    objective: Objective = fit_objective,
) -> int:
    """Run the failed trials of a search again, and no others; else as `resume_search`.

    Raises:
        ResultsError: no trial has failed.
    """
    with _open(folder, machine, say, changes) as opened:
        trials = opened.recorder.results.trials.values()
        failed = [trial for trial in trials if trial.status == "failed"]
        if not failed:
            raise ResultsError(
                f"{folder} has no failed trial to try again; go on with it:"
                f" {resume_command(folder)}"
            )
        for trial in failed:
            trial_id, kind, reason = trial.trial_id, trial.failures[-1], trial.reason
            say(f"{trial_id} is tried again; it had failed ({kind}): {reason}")
            opened.recorder.write(
                "trial_retried", trial_id=trial_id, kind=kind, reason=reason, by_user=True
            )
        only = [trial.trial_id for trial in failed]
        return _carry_out(opened, machine, say, objective, only=only)


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

    Args:
        folder, machine, say, changes, objective: as in `resume_search`.
        again: whether the test split may be opened once more; it is recorded.

    Raises:
        ResultsError: the test split was opened before, and `again` is not given.
        NoUsableTrialError: there is nothing to confirm.
    """
    with _open(folder, machine, say, changes, training=False) as opened:
        recorder, results = opened.recorder, opened.recorder.results
        stop = StopRequest(None, resume_command(folder))
        budget = results.plan.search.time_budget
        if results.unfinished() or not results.finished:
            say(f"{standing(results)} The finals compare what is known so far.")
            stop.ask(ASKED_FOR)
        with (
            workplace(folder, machine, opened.share, say, objective) as place,
            storage_errors(folder),
            stop.on_signals(),
        ):
            return finish(
                recorder,
                opened.dataset,
                opened.data,
                stop,
                say,
                place,
                seconds_left=None if budget is None else budget_seconds(budget),
                asked=True,
                again=again,
            )


def extend_search(
    folder: Path,
    machine: Machine,
    say: Say,
    *,
    wanted: Plan,
    objective: Objective = fit_objective,
) -> int:
    """Give the search in `folder` more trials or longer trainings; else as `resume_search`.

    What is known stays known; completed trials train on from their checkpoints.

    Args:
        folder, machine, say, objective: as in `resume_search`.
        wanted: the recorded plan with a larger `search.num_samples` or `train.max_epochs`.

    Raises:
        PlanError: nothing grows, or anything else differs that trials are compared by.
    """
    with _open(folder, machine, say, wanted, growing=True) as opened:
        recorder, results = opened.recorder, opened.recorder.results
        old_epochs, plan = opened.recorded_plan.train.max_epochs, results.plan
        recorder.write("extended", plan=plan.model_dump(mode="json"))
        epochs = plan.train.max_epochs
        say(
            f"The search grows to {plan.search.num_samples} trials of at most {epochs} epochs; if"
            f" it is interrupted, go on with: {resume_command(folder)}"
        )
        say(standing(results))
        if epochs > old_epochs:
            say(
                f"Trials that go on, completed ones included, train to epoch {epochs} instead of"
                f" {old_epochs}; the learning rate's schedule ({plan.optim.schedule}) is computed"
                " anew for the new length, and jumps to where a training of that length would be."
            )
        return _carry_out(opened, machine, say, objective)


def _carry_out(
    opened: _Opened,
    machine: Machine,
    say: Say,
    objective: Objective,
    *,
    only: Collection[str] | None = None,
) -> int:
    recorder, share = opened.recorder, opened.share
    dataset, data = opened.dataset, opened.data
    return carry_out(recorder, dataset, data, machine, share, say, objective, only=only)


@contextmanager
def _open(
    folder: Path,
    machine: Machine,
    say: Say,
    changes: Plan | None,
    *,
    growing: bool = False,
    training: bool = True,
) -> Iterator[_Opened]:
    """Lock the folder, and make sure that its search can go on under this plan on this data."""
    with Journal(folder) as journal:
        recorder = Recorder(journal)
        results, recorded = recorder.results, recorder.results.plan
        with _settled(
            results, journal.records, machine, say, changes, growing=growing, training=training
        ) as share:
            dataset, data = load_data(results.plan, say, drawn=results.drawn)
            _check_same_data(dataset, results)
            known = None if results.started_from else read_start_from(results.plan)
            if known is not None:  # a crash came between two lines
                record_start_from(recorder, known, dataset, say)
            yield _Opened(
                recorded_plan=recorded, recorder=recorder, dataset=dataset, data=data, share=share
            )


@contextmanager
def _settled(
    results: Results,
    records: Records,
    machine: Machine,
    say: Say,
    changes: Plan | None,
    *,
    growing: bool = False,
    training: bool = True,
) -> Iterator[Share]:
    """Make sure that a search can go on, and settle its plan on what is there now.

    A cluster is joined as long as this lasts.
    """
    folder, recorded = results.folder, results.plan
    if not results.events:
        raise ResultsError(f"{folder} holds no search; start one with --name {folder.name}")
    _check_links(folder)
    over = (results.finished and not growing) or not training
    if recorded.search.scheduler == "bohb" and not over:
        raise ResultsError(f"{folder} can't go on: {NOT_RESUMABLE}")
    if records.torn_lines:
        say("The journal's last line was torn by a crash and is dropped.")
    wanted = changes or recorded
    changed = _with_changes(_grown(recorded, wanted) if growing else recorded, wanted)
    with nodes_for(changed, machine, say) as nodes:
        forecast = preflight.check(changed, nodes)
        check_storage(changed)
        results.plan = forecast.plan
        yield forecast.share


def _check_links(folder: Path) -> None:
    """What is not needed is deleted in these subfolders: a link in them would lead elsewhere."""
    link = linked(folder, RAY, FINALS, BEST)
    if link is not None:
        raise ResultsError(
            f"{link} is a symbolic link, and files behind it might be deleted; put what it names in"
            " its place"
        )


def _grown(recorded: Plan, wanted: Plan) -> Plan:
    """The recorded plan with the wanted number of trials and epochs.

    Raises:
        PlanError: as `extend_search`.
    """
    check_same_plan(recorded, wanted, wanted, free=GROWING)
    samples, epochs = wanted.search.num_samples, wanted.train.max_epochs
    for field, old, new in (
        ("search.num_samples", recorded.search.num_samples, samples),
        ("train.max_epochs", recorded.train.max_epochs, epochs),
    ):
        if new < old:
            raise PlanError(f"{field} is {new}, below the search's {old}; a search can only grow")
    if recorded.search.scheduler == "pbt" and samples > recorded.search.num_samples:
        raise PlanError(
            f"--num-samples is {samples}, and the population of this pbt search has"
            f" {recorded.search.num_samples}; it is settled at the start: give --max-epochs"
        )
    plan = plan_from(
        {
            **recorded.model_dump(mode="json"),
            "search": {**recorded.search.model_dump(mode="json"), "num_samples": samples},
            "train": {**recorded.train.model_dump(mode="json"), "max_epochs": epochs},
        },
        "the extended plan",
    )
    more = preflight.number_of_trials(plan) > preflight.number_of_trials(recorded)
    if not more and epochs == recorded.train.max_epochs:
        raise PlanError(
            "nothing would grow; give --num-samples +20 or a larger --max-epochs"
            + ("" if samples == recorded.search.num_samples else ": the space has no more points")
        )
    return plan


def check_same_plan(
    recorded: Plan, wanted: Plan, settled: Plan, *, free: Collection[str] = ()
) -> None:
    """Refuse to go on with a search under a plan that would make its trials incomparable.

    Args:
        recorded: the plan of the search.
        wanted: the plan as given now; its `auto` fields are no wish.
        settled: the same, settled on this machine.
        free: fields that may differ besides the `FREE_FIELDS`.

    Raises:
        PlanError: with each difference.
    """
    old, new, given = (_flatten(plan) for plan in (recorded, settled, wanted))
    differences = [
        f"{field} was {old[field]!r} and is now {new[field]!r}"
        for field in old
        if field not in FREE_FIELDS | PLACE | set(free)
        and field.partition(".")[0] not in FREE_SECTIONS
        and given[field] != "auto"
        and old[field] != new[field]
    ]
    if differences:
        raise PlanError(
            f"the search can't go on under another plan: {'; '.join(differences)}; give the old"
            " values, or start a new search under another --name; more trials or epochs come with"
            " cifar-tune extend"
        )


def _flatten(plan: Plan) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in plan.model_dump().items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    return flat


def _with_changes(recorded: Plan, wanted: Plan) -> Plan:
    """The recorded plan with the wanted plan's `FREE_SECTIONS` and `FREE_FIELDS`."""
    values, new = recorded.model_dump(mode="json"), wanted.model_dump(mode="json")
    for name in FREE_SECTIONS:
        values[name] = new[name]
    for field in FREE_FIELDS:
        section, _, key = field.partition(".")
        values[section][key] = new[section][key]
    return plan_from(values, "the recorded plan")


def _check_same_data(dataset: Dataset, results: Results) -> None:
    recorded = results.data.get("fingerprint", "")
    if dataset.fingerprint != recorded:
        raise DataError(
            f"{dataset.source} has the fingerprint {dataset.fingerprint[:12]}, and the search began"
            f" on data with {recorded[:12]}; give that data with --data-dir, or start a new search"
        )
