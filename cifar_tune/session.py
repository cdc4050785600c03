"""One start of a search, new or resumed, through to its winner and its test score."""

from __future__ import annotations

import importlib
import json
import platform
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from cifar_tune import __version__, preflight
from cifar_tune.config import Plan, dump_yaml
from cifar_tune.data import Dataset, SearchData, prepare, prepare_drawn, search_data
from cifar_tune.errors import DataError, NoUsableTrialError, PlanError, ResultsError, StorageError
from cifar_tune.journal import VERSION, Event, Journal
from cifar_tune.load import plan_from
from cifar_tune.machine import Machine
from cifar_tune.preflight import Forecast
from cifar_tune.resources import Share
from cifar_tune.results import (
    Recorder,
    Results,
    TableWriter,
    finals_of,
    write_atomically,
    write_tables,
)
from cifar_tune.search.progress import ProgressLines
from cifar_tune.search.run import StopRequest, run_search, tidy
from cifar_tune.search.trainable import Objective, fit_objective
from cifar_tune.tracking.tensorboard import TensorBoardFiles

Say = Callable[[str], None]
PACKAGES = (
    "lightning", "numpy", "ray", "tensorboardX", "torch", "torchmetrics", "torchvision", "wandb",
)  # fmt: skip
# What a resumed search may change: where and how it runs, not what it compares.
FREE_FIELDS = {
    "data.path", "data.fallback", "search.time_budget", "search.max_failures",
    "search.checkpoint_every_epochs",
}  # fmt: skip
FREE_SECTIONS = ("resources", "tracking")
PLACE = {"name", "out"}  # the folder itself is the search, wherever it was moved


def resume_command(folder: Path) -> str:
    """The command that goes on with the search in `folder`."""
    return f"python -m cifar_tune.tune resume {shlex.quote(str(folder))}"


def start_search(
    forecast: Forecast,
    folder: Path,
    machine: Machine,
    say: Say,
    objective: Objective = fit_objective,
) -> int:
    """Run a new search into `folder`; returns the exit code.

    Raises:
        CifarTuneError: the data is damaged, the folder is taken, the storage is full, or no trial
            is usable.
    """
    dataset, data = _load_data(forecast.plan, say)
    folder.mkdir(parents=True, exist_ok=True)
    with Journal(folder) as journal:
        if journal.records.events:
            raise ResultsError(f"{folder} was taken by another search just now; try again")
        recorder = Recorder(journal)
        plan, environment = forecast.plan, _environment(machine, forecast.share)
        recorder.write(
            "search",
            version=VERSION,
            plan=plan.model_dump(mode="json"),
            data=_describe_data(dataset, data, plan),
            environment=environment,
        )
        return _run(recorder, dataset, data, machine, forecast.share, say, objective)


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
        objective: as in `start_search`.

    Raises:
        CifarTuneError: as `start_search`; also if the data is not what it was.
    """
    with Journal(folder) as journal:
        recorder = Recorder(journal)
        results = recorder.results
        if not results.events:
            raise ResultsError(f"{folder} holds no search; start one with --name {folder.name}")
        if journal.records.torn_lines:
            say("The journal's last line was torn by a crash and is dropped.")
        results.plan = _with_changes(results.plan, changes or results.plan)
        forecast = preflight.check(results.plan, machine)
        results.plan, share = forecast.plan, forecast.share
        drawn = results.data["kind"] == "drawn"
        dataset, data = _load_data(results.plan, say, drawn=drawn)
        _check_same_data(dataset, results)
        say(standing(results))
        return _run(recorder, dataset, data, machine, share, say, objective)


def check_same_plan(recorded: Plan, wanted: Plan, settled: Plan) -> None:
    """Refuse to go on with a search under a plan that would make its trials incomparable.

    Args:
        recorded: the plan of the search.
        wanted: the plan as given now; its `auto` fields are no wish.
        settled: the same, settled on this machine.

    Raises:
        PlanError: with each difference.
    """
    old, new, given = (_flatten(plan) for plan in (recorded, settled, wanted))
    differences = [
        f"{field} was {old[field]!r} and is now {new[field]!r}"
        for field in old
        if field not in FREE_FIELDS | PLACE
        and field.partition(".")[0] not in FREE_SECTIONS
        and given[field] != "auto"
        and old[field] != new[field]
    ]
    if differences:
        raise PlanError(
            f"the search can't go on under another plan: {'; '.join(differences)}; give the old"
            " values, or start a new search under another --name"
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


def _load_data(plan: Plan, say: Say, *, drawn: bool = False) -> tuple[Dataset, SearchData]:
    """The dataset; `drawn`: the search began on the drawn set, so nothing else will do."""
    dataset = prepare_drawn(say) if drawn else prepare(plan.data, say)
    data = search_data(dataset, plan.data)
    preflight.check_sizes(plan, len(data.train_labels))
    return dataset, data


def _check_same_data(dataset: Dataset, results: Results) -> None:
    recorded = results.data["fingerprint"]
    if dataset.fingerprint != recorded:
        raise DataError(
            f"{dataset.source} has the fingerprint {dataset.fingerprint[:12]}, and the search began"
            f" on data with {recorded[:12]}; give that data with --data-dir, or start a new search"
        )


def _describe_data(dataset: Dataset, data: SearchData, plan: Plan) -> dict[str, Any]:
    return {
        "kind": dataset.kind,
        "source": dataset.source,
        "fingerprint": dataset.fingerprint,
        "train": len(data.train_labels),
        "val": len(data.val_labels),
        "confirm": plan.data.confirm_size,
        "test": dataset.test_size,
        "classes": list(dataset.classes),
        "notes": list(dataset.notes),
    }


def _environment(machine: Machine, share: Share) -> dict[str, Any]:
    versions = {name: metadata.version(name) for name in PACKAGES}
    return {
        "versions": {"cifar_tune": __version__, "python": platform.python_version(), **versions},
        "platform": platform.platform(),
        "machine": asdict(machine),
        "resources": {
            "cpus_per_trial": share.cpus,
            "gpus_per_trial": share.gpus,
            "slots": share.slots,
        },
        "command": sys.argv,
    }


def standing(results: Results) -> str:
    """Where a search stands, in a sentence."""
    counts = results.counts()
    named = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"Going on with {results.folder}: {named}, of {results.plan.search.num_samples}."


def _run(
    recorder: Recorder,
    dataset: Dataset,
    data: SearchData,
    machine: Machine,
    share: Share,
    say: Say,
    objective: Objective,
) -> int:
    folder = recorder.journal.folder
    environment = json.dumps(_environment(machine, share), indent=2) + "\n"
    with _storage_errors(folder):
        write_atomically(folder / "plan.yaml", dump_yaml(recorder.results.plan))
        write_atomically(folder / "environment.json", environment)
    tensorboard = TensorBoardFiles(folder / "tensorboard")
    recorder.observers = [ProgressLines(say), tensorboard, TableWriter(), ImportsAhead()]
    command = resume_command(folder)
    try:
        stop = run_search(
            recorder, data, machine, share, objective=objective, resume_command=command
        )
    finally:
        tensorboard.close()
    with _storage_errors(folder):
        return _finish(recorder, dataset, data, stop, say)


@contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{folder} can't be written: {error.strerror}: {error.filename}; free space or bring"
            f" the storage back, then: {resume_command(folder)}"
        ) from None


class ImportsAhead:
    """Imports what comes after the search once a slot stays idle for want of trials."""

    def __init__(self) -> None:
        self._begun = False

    def __call__(self, event: Event, results: Results) -> None:
        """Observe one event of the journal."""
        all_created = len(results.trials) == results.plan.search.num_samples
        if event["event"] == "trial_ended" and all_created and not self._begun:
            self._begun = True
            target, arguments = importlib.import_module, ("cifar_tune.best",)
            threading.Thread(target=target, args=arguments, daemon=True).start()


def _finish(
    recorder: Recorder, dataset: Dataset, data: SearchData, stop: StopRequest, say: Say
) -> int:
    """Winner, test score, tables; then the exit code."""
    results = recorder.results
    if stop.reason is None and results.counts()["interrupted"]:
        stop.reason = "Ray, without a reason"
    if stop.signal is None:
        _write_winner(recorder, dataset, data, say, score=stop.reason is None)
    if stop.reason is None:
        tidy(recorder)
        recorder.write("finished")
    write_tables(results)
    _show_outcome(results, say)
    if stop.signal is not None:
        say(f"Stopped by {stop.reason}; everything reported is saved. Go on with:")
        say(resume_command(results.folder))
        return 128 + stop.signal
    if stop.reason is not None:
        say(f"Stopped: {stop.reason}. Go on with: {resume_command(results.folder)}")
    if results.best() is None and stop.reason is None:
        raise NoUsableTrialError("no trial is usable:\n" + "\n".join(_failures(results)))
    return 3 if results.counts()["failed"] else 0


def _write_winner(
    recorder: Recorder, dataset: Dataset, data: SearchData, say: Say, *, score: bool
) -> None:
    """Write `best/`; `score` it on the test split unless the search may still find a better one."""
    if recorder.results.best() is None:
        return
    # These import torch, which costs seconds that the start and a stopped search do not have.
    from cifar_tune.best import write_best
    from cifar_tune.finals import score_test_split

    checkpoint = write_best(recorder.results, data)
    if checkpoint is None:
        say("The winner has no checkpoint, so there is no best/ and no test score.")
    elif score and score_test_split(recorder, dataset, checkpoint) is None:
        opened = recorder.results.test_opened
        assert opened is not None
        say(
            f"The test split was opened for {opened['trial_id']} before, and stays closed: a second"
            " look would make its score a choice."
        )


def _show_outcome(results: Results, say: Say) -> None:
    for line in _failures(results):
        say(line)
    winner, cost = results.winner(), results.cost()
    say(
        f"{cost['epochs_run']} of {cost['epochs_without_stopping']} epochs run in"
        f" {cost['wall_seconds']:.0f} s on {cost['slots']} slots, {cost['utilisation']:.0%} busy"
    )
    if winner is None:
        return
    say(
        f"winner {winner['trial_id']} (epoch {winner['epoch']}): validation accuracy"
        f" {winner['val_accuracy']:.4f}, loss {winner['val_loss']:.4f}"
    )
    say("  " + "  ".join(f"{field}={value}" for field, value in winner["config"].items()))
    finals = finals_of(results)
    if finals is not None:
        kind = " on the DRAWN set, not CIFAR-10" if results.data["kind"] == "drawn" else ""
        say(f"test accuracy {finals['mean']:.4f}{kind}")
    say(f"results in {results.folder}")


def _failures(results: Results) -> list[str]:
    bad = ("failed", "diverged")
    trials = [trial for trial in results.trials.values() if trial.status in bad]
    return [f"{trial.trial_id} {trial.status}: {trial.reason}" for trial in trials]
