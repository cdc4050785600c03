"""The study file, as Optuna and the real optuna-dashboard read it while it is written."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import (
    JournalFileBackend,
    JournalFileOpenLock,
    JournalFileSymlinkLock,
)
from optuna.study import StudyDirection
from optuna.trial import TrialState
from search.studies import ToldSearch, shown, shown_study

from cifar_tune.search.dashboard import FILE_NAME

SPACE = (
    "search.space={optim.lr: {loguniform: [1e-4, 10]}, model.l1: {pow2: [4, 256]},"
    " optim.name: {choice: [sgd, adamw]}}"
)
VALUES = {"optim.lr": 0.5, "model.l1": 64, "optim.name": "sgd"}


def tpe(folder: Path, *overrides: str) -> ToldSearch:
    return ToldSearch(folder, "search.searcher=tpe", SPACE, *overrides)


def test_a_trial_is_shown_with_its_reports_its_state_and_its_values(tmp_path: Path) -> None:
    search = tpe(tmp_path)
    search.complete(0.2, 0.6, 0.5, values=VALUES)
    search.run(search.create(), 0.1, 0.3, status="stopped")
    search.run(search.create(), 0.2, status="failed")
    search.run(search.create(), 0.4, status="diverged")
    search.report(search.create(), 0.35)
    trials = shown(tmp_path)
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.PRUNED]
    assert [trial.state for trial in trials] == [*states, TrialState.RUNNING]
    assert trials[0].params == {"optim.lr": 0.5, "log2(model.l1)": 6, "optim.name": "sgd"}
    assert trials[0].user_attrs == {"trial_id": "t0001", **VALUES}
    assert [trial.value for trial in trials] == [0.6, 0.3, None, 0.4, None]
    assert trials[1].intermediate_values == {1: 0.1, 2: 0.3}
    assert trials[1].user_attrs["reason"] == "it was stopped"
    assert trials[2].user_attrs["status"] == "failed"
    assert trials[3].intermediate_values == {1: 0.4}
    assert trials[4].intermediate_values == {1: 0.35}


def test_the_study_says_what_search_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "lecture-3"
    tpe(folder, "search.metric=val_loss", "search.scheduler=asha").complete(0.5)
    study = shown_study(folder)
    assert study.study_name == "lecture-3"
    assert study.direction is StudyDirection.MINIMIZE
    assert study.metric_names == ["val_loss"]
    assert study.user_attrs["searcher"] == "tpe"
    assert study.user_attrs["scheduler"] == "asha"
    assert study.best_value == 0.5


@pytest.mark.parametrize("judged_by", ["best", "last"])
def test_a_completed_trial_is_shown_with_the_value_that_it_is_judged_by(
    judged_by: str, tmp_path: Path
) -> None:
    search = tpe(tmp_path, f"search.winner_by={judged_by}")
    search.complete(0.2, 0.6, 0.5)
    assert shown(tmp_path)[0].value == {"best": 0.6, "last": 0.5}[judged_by]


def test_a_restart_draws_the_same_picture_with_times_of_the_trials(tmp_path: Path) -> None:
    search = tpe(tmp_path)
    search.complete(0.2, 0.6, 0.5)
    search.run(search.create(), 0.1, status="stopped")
    search.report(search.create(), 0.4)
    before = shown(tmp_path)
    search.restart()
    after = shown(tmp_path)
    assert [drawn(trial) for trial in after] == [drawn(trial) for trial in before]
    for trial, new in zip(search.recorder.results.trials.values(), after, strict=True):
        assert new.datetime_start == datetime.fromtimestamp(trial.created)
    stopped = search.recorder.results.trials["t0002"]
    assert stopped.ended is not None
    assert after[1].datetime_complete == datetime.fromtimestamp(stopped.ended)


def drawn(trial: Any) -> tuple[Any, ...]:
    return (
        trial.number, trial.state, trial.value, trial.params, trial.distributions,
        trial.user_attrs, trial.intermediate_values,
    )  # fmt: skip


def test_a_rebuild_leaves_no_running_trial_but_those_that_go_on(tmp_path: Path) -> None:
    search = tpe(tmp_path)
    search.complete(0.2, 0.6, 0.5)
    search.run(search.create(), 0.1, status="failed")
    interrupted = search.create()
    search.report(interrupted, 0.4)
    search.end(interrupted, "interrupted", "SIGINT")
    search.restart()
    running = [trial for trial in shown(tmp_path) if trial.state is TrialState.RUNNING]
    assert [trial.user_attrs["trial_id"] for trial in running] == [interrupted]
    search.run(interrupted, 0.5, 0.6)
    assert {trial.state for trial in shown(tmp_path)} == {TrialState.COMPLETE, TrialState.FAIL}


def test_a_trial_ends_with_its_last_report_whether_its_end_is_recorded_or_not(
    tmp_path: Path,
) -> None:
    search = tpe(tmp_path)
    name = search.create()
    for accuracy in (0.2, 0.6, 0.5):
        search.report(name, accuracy)
    (at_once,) = shown(tmp_path)
    assert (at_once.state, at_once.value) == (TrialState.COMPLETE, 0.6)
    search.end(name, "completed")
    assert [drawn(trial) for trial in shown(tmp_path)] == [drawn(at_once)]
    search.restart()
    assert [drawn(trial) for trial in shown(tmp_path)] == [drawn(at_once)]


def test_a_trial_that_fails_after_its_last_report_is_shown_as_failed_too(tmp_path: Path) -> None:
    search = tpe(tmp_path)
    search.run(search.create(), 0.2, 0.6, 0.5, status="failed")
    assert [trial.state for trial in shown(tmp_path)] == [TrialState.COMPLETE, TrialState.FAIL]
    search.restart()
    assert [trial.state for trial in shown(tmp_path)] == [TrialState.FAIL]


def test_a_failed_trial_that_is_tried_again_is_shown_as_another_one(tmp_path: Path) -> None:
    search = tpe(tmp_path)
    name = search.create()
    search.run(name, 0.2, status="failed")
    search.write("trial_retried", trial_id=name, kind="code", reason="", by_user=True)
    failed, again = shown(tmp_path)
    assert failed.state is TrialState.FAIL
    assert again.state is TrialState.RUNNING
    assert again.params == failed.params
    assert again.intermediate_values == {1: 0.2}
    search.run(name, 0.4, 0.6)
    assert shown(tmp_path)[1].value == 0.6
    search.restart()
    (only,) = shown(tmp_path)
    assert only.value == 0.6


def test_completed_trials_of_an_extended_search_go_on_as_others(tmp_path: Path) -> None:
    search = tpe(tmp_path)
    name = search.complete(0.2, 0.6, 0.5)
    longer = search.plan.model_dump(mode="json")
    longer["train"]["max_epochs"] = 5
    search.write("extended", plan=longer)
    short, long = shown(tmp_path)
    assert (short.state, long.state) == (TrialState.COMPLETE, TrialState.RUNNING)
    assert shown_study(tmp_path).user_attrs["epochs"] == 5
    search.run(name, 0.7, 0.8)
    assert shown(tmp_path)[1].value == 0.8


def test_the_trials_of_an_earlier_search_are_shown_as_such(tmp_path: Path) -> None:
    trials = [
        {"values": VALUES, "status": "completed", "results": [[1, 0.3], [2, 0.5], [3, 0.4]]},
        {"values": {**VALUES, "model.l1": 8}, "status": "stopped", "results": [[1, 0.1]]},
        {"values": {**VALUES, "model.l1": 4}, "status": "failed", "results": []},
    ]
    known = {"source": "/results/first", "points": [], "trials": trials}
    search = ToldSearch(tmp_path, "search.searcher=tpe", SPACE, known=known)
    search.create()
    *earlier, new = shown(tmp_path)
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert [trial.state for trial in earlier] == states
    assert [trial.value for trial in earlier] == [0.5, 0.1, None]
    assert {trial.user_attrs["from"] for trial in earlier} == {"/results/first"}
    assert "from" not in new.user_attrs


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(b"\x00\xff not a journal\n" * 20),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
    ],
    ids=["half", "damaged", "empty", "missing"],
)
def test_what_became_of_the_file_has_no_effect_on_a_restart(
    harm: Callable[[Path], None], tmp_path: Path
) -> None:
    search = tpe(tmp_path)
    search.complete(0.2, 0.6, 0.5)
    before = [drawn(trial) for trial in shown(tmp_path)]
    harm(tmp_path / FILE_NAME)
    search.restart()
    assert [drawn(trial) for trial in shown(tmp_path)] == before
    search.complete(0.3)
    assert len(shown(tmp_path)) == 2


@pytest.mark.parametrize("kind", [JournalFileOpenLock, JournalFileSymlinkLock])
def test_a_lock_of_a_killed_process_holds_nothing_up(kind: Any, tmp_path: Path) -> None:
    """A dashboard takes Optuna's lock to write a note; killed meanwhile, it leaves it behind."""
    search = tpe(tmp_path)
    kind(str(tmp_path / FILE_NAME)).acquire()
    assert os.path.lexists(tmp_path / f"{FILE_NAME}.lock")
    search.complete(0.2, 0.6)
    assert len(shown(tmp_path)) == 1
    assert os.path.lexists(tmp_path / f"{FILE_NAME}.lock")  # Optuna breaks a lock after 30 s
    search.restart()
    assert not os.path.lexists(tmp_path / f"{FILE_NAME}.lock")
    search.complete(0.3)
    assert len(shown(tmp_path)) == 2


def test_a_fault_of_the_file_ends_the_picture_and_not_the_search(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    search = tpe(tmp_path)
    name = search.create()
    with (tmp_path / FILE_NAME).open("ab") as file:
        file.write(b"someone's line\n")
    search.run(name, 0.2, 0.6)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / FILE_NAME} is not kept up to date from here on, and the search goes on"
        " without it: Expecting value: line 1 column 1 (char 0)"
    ]
    assert search.suggest() is not None


def test_a_study_that_is_deleted_at_the_dashboard_ends_the_picture_and_not_the_search(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    search = tpe(tmp_path)
    search.complete(0.2, 0.6)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / FILE_NAME)))
    optuna.delete_study(study_name=tmp_path.name, storage=storage)
    search.complete(0.3)
    search.complete(0.4)
    assert len(caplog.records) == 1
    assert "goes on without it" in caplog.text
    search.restart()
    assert len(shown(tmp_path)) == 3


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    search = tpe(tmp_path)
    search.complete(0.2, 0.6)
    search.run(search.create(), status="failed")
    assert capfd.readouterr() == ("", "")


def test_the_dashboard_shows_a_search_while_it_runs(tmp_path: Path) -> None:
    folder = tmp_path / "live-1"
    search = tpe(folder)
    search.complete(0.2, 0.6, 0.5)
    running = search.create()
    search.report(running, 0.3)
    with dashboard(folder / FILE_NAME) as address:
        (summary,) = ask(f"{address}/api/studies")["study_summaries"]
        assert (summary["study_name"], summary["directions"]) == ("live-1", ["maximize"])
        trials = ask(f"{address}/api/studies/{summary['study_id']}")["trials"]
        assert [trial["state"] for trial in trials] == ["Complete", "Running"]
        assert trials[1]["intermediate_values"] == [{"step": 1, "value": 0.3}]
        search.end(running, "stopped", "early stopping")
        search.run(search.create(), 0.1, status="failed")
        search.create()
        states = ["Complete", "Pruned", "Fail", "Running"]
        trials = ask_for(states, f"{address}/api/studies/{summary['study_id']}")
        assert trials[0]["values"] == [0.6]
        assert {"key": "trial_id", "value": "t0001"} in trials[0]["user_attrs"]


@contextmanager
def dashboard(file: Path) -> Iterator[str]:
    """The real dashboard as a process of its own; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("optuna-dashboard")
    command = [str(program), str(file), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen([*command, "--server", "wsgiref"], stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: ask(f"{address}/api/meta"), process)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def wait_for(attempt: Callable[[], Any], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            attempt()
        except urllib.error.URLError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"no answer; exit code {process.poll()}")


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def ask_for(states: list[str], url: str) -> Any:
    """The dashboard keeps what it has read for two seconds."""
    deadline = time.monotonic() + 30
    while True:
        trials = ask(url)["trials"]
        if [trial["state"] for trial in trials] == states:
            return trials
        assert time.monotonic() < deadline, [trial["state"] for trial in trials]
        time.sleep(0.2)
