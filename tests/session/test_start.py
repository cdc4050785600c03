"""One search with real training, killed, stopped and gone on with, by real signals to real processes."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from command_line import command, run, run_here, wait_for_results
from told import story as story_told

from cifar_tune.errors import EndedError, StorageError
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.machine import Share, read_machine
from cifar_tune.record.journal import FILE_NAME, read_journal
from cifar_tune.record.ranking import best_epoch
from cifar_tune.record.results import Results
from cifar_tune.search.configurations import Configurations
from cifar_tune.search.session import Session
from cifar_tune.search.stop import StopRequest
from cifar_tune.session.outcome import finish
from cifar_tune.session.start import storage_errors

TRIALS, EPOCHS = 5, 6


@dataclass
class Story:
    """What happened to the search: its journal after each start, and how each start ended."""

    folder: Path
    arguments: list[str]
    journals: list[bytes] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    seconds_to_stop: float = 0.0


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Story:
    """SIGKILL in the middle, the same command again, SIGTERM, then the command it printed."""
    out = tmp_path_factory.mktemp("results with a space")
    given = [
        f"data.path={image_folder}", "data.val_size=100", "data.confirm_size=50", "model.width=4",
        "search.space.data.batch_size={choice: [16, 32]}", f"search.num_samples={TRIALS}",
        f"train.max_epochs={EPOCHS}", "search.scheduler=none", "finals.seeds=0",
    ]  # fmt: skip
    sets = [word for value in given for word in ("--set", value)]
    arguments = ["--out", str(out), "--name", "one", "--resume", "auto", *sets]
    story = Story(out / "one", arguments)
    for number, results in ((signal.SIGKILL, 4), (signal.SIGTERM, 12)):
        _run_until(story, number, results)
    last = shlex.split(story.outputs[-1].splitlines()[-1])
    assert last[:4] == ["python", "-m", "cifar_tune.tune", "resume"]
    done = run(*last[3:])
    _note(story, done.stdout + done.stderr, done.returncode)
    return story


def _run_until(story: Story, number: signal.Signals, results: int) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    words = command(*story.arguments)
    process = subprocess.Popen(words, text=True, start_new_session=True, **pipes)
    wait_for_results(story.folder, results, process)
    if number == signal.SIGTERM:
        os.killpg(process.pid, number)  # as `kill %1` and `timeout` send it: to all of its group
    else:
        process.send_signal(number)
    sent = time.monotonic()
    output, _ = process.communicate(timeout=60)
    story.seconds_to_stop = time.monotonic() - sent
    _note(story, output, process.returncode)


def _note(story: Story, output: str, code: int) -> None:
    story.journals.append((story.folder / FILE_NAME).read_bytes())
    story.outputs.append(output)
    story.codes.append(code)


def test_each_start_ends_with_its_exit_code(story: Story) -> None:
    assert story.codes == [-signal.SIGKILL, 143, 0], story.outputs[-1]


def test_ray_prints_no_lines_of_its_own_about_trials(story: Story) -> None:
    assert "completed" in story.outputs[-1]
    assert not any("Trial t0" in output for output in story.outputs)


def test_sigterm_saves_within_ten_seconds_and_ends_with_the_command_to_go_on(story: Story) -> None:
    assert story.seconds_to_stop < 10
    assert "Stopped by SIGTERM; everything reported is saved" in story.outputs[1]


def test_no_acknowledged_result_is_lost(story: Story) -> None:
    killed, stopped, ended = story.journals
    whole = killed[: killed.rindex(b"\n") + 1]
    assert stopped.startswith(whole)
    assert ended.startswith(stopped)


def test_no_trial_runs_twice_and_at_most_one_epoch_is_repeated(story: Story) -> None:
    events = read_journal(story.folder).of("result")
    reported = Counter((event["trial_id"], event["metrics"]["epoch"]) for event in events)
    assert set(reported) == {
        (f"t{number:04}", epoch)
        for number in range(1, TRIALS + 1)
        for epoch in range(1, EPOCHS + 1)
    }
    repeated = sum(count - 1 for count in reported.values())
    assert repeated == 0  # every report had its checkpoint on the disk before its line


def test_the_configurations_are_those_of_an_unbroken_run(story: Story) -> None:
    results = Results.read(story.folder)
    given = [word for word in story.arguments if "=" in word]
    expected = list(Configurations(load_plan(None, given)))
    assert [trial.values for trial in results.trials.values()] == expected


def test_an_interrupted_trial_reports_what_an_unbroken_one_does(story: Story) -> None:
    from cifar_tune.train.fit import fit
    from cifar_tune.vision.data import prepare, search_data

    results = Results.read(story.folder)
    resumed = [event["trial_id"] for event in read_journal(story.folder).of("trial_started")]
    name = next(name for name, starts in Counter(resumed).items() if starts > 1)
    trial, plan = results.trials[name], results.plan
    data = search_data(prepare(plan.data, lambda note: None), plan.data)
    unbroken = fit(plan.run(trial.values, trial.index), data)
    last = trial.results[EPOCHS]
    for figure in ("val_loss", "val_accuracy", "train_loss", "best_val_accuracy", "lr"):
        assert unbroken.metrics[figure] == last[figure]


def test_best_holds_the_winner_and_gives_its_recorded_accuracy_again(story: Story) -> None:
    best = story.folder / "best"
    summary = json.loads((story.folder / "summary.json").read_text())
    metrics = json.loads((best / "metrics.json").read_text())
    assert metrics["trial_id"] == summary["best"]["trial_id"]
    assert metrics["val_accuracy"] == summary["best"]["val_accuracy"]
    assert metrics["val_accuracy_recomputed"] == metrics["val_accuracy"]
    with np.load(best / "validation_predictions.npz", allow_pickle=False) as predictions:
        correct = (predictions["logits"].argmax(1) == predictions["labels"]).mean()
    assert correct == pytest.approx(metrics["val_accuracy"])
    config = load_plan(best / "config.yaml")
    assert config.optim.lr == summary["best"]["config"]["optim.lr"]
    torch.load(best / "model.ckpt", weights_only=True)


def test_the_test_split_is_opened_once_after_the_search(story: Story) -> None:
    records = read_journal(story.folder)
    assert len(records.of("test_opened")) == len(records.of("test_scored")) == 1
    last_result = records.of("result")[-1]["seq"]
    assert records.of("test_opened")[0]["seq"] > last_result
    summary = json.loads((story.folder / "summary.json").read_text())
    assert summary["finals"]["mean"] == summary["finals"]["test_accuracy"][0]
    assert f"test accuracy {summary['finals']['mean']:.4f}" in story.outputs[-1]


def test_the_tables_count_what_ran(story: Story) -> None:
    summary = json.loads((story.folder / "summary.json").read_text())
    assert summary["trials"]["completed"] == summary["trials"]["total"] == TRIALS
    assert summary["dataset"] | {"classes": 0, "source": 0, "fingerprint": 0, "notes": 0} == {
        "kind": "images", "train": 250, "val": 100, "confirm": 50, "test": 100,
        "image_size": 32, "resize": "squash", "classes": 0, "source": 0, "fingerprint": 0, "notes": 0,
    }  # fmt: skip
    with (story.folder / "trials.csv").open() as file:
        assert [row["epochs"] for row in csv.DictReader(file)] == [str(EPOCHS)] * TRIALS


def test_completed_trials_keep_their_newest_checkpoint_the_winner_its_best_and_no_more(
    story: Story,
) -> None:
    results = Results.read(story.folder)
    files = {path for path in (story.folder / "ray").rglob("*") if path.is_file()}
    named = {
        story.folder / path
        for trial in results.trials.values()
        for path in trial.checkpoints.values()
    }
    assert files == named
    best = results.best()
    assert best is not None
    winning = best_epoch(best, results.plan.search)
    for trial in results.trials.values():
        assert set(trial.checkpoints) == {EPOCHS} | ({winning} if trial is best else set())


def test_tensorboard_files_hold_every_epoch_of_every_trial(story: Story) -> None:
    shown = story.folder / "tensorboard"
    folders = sorted(path.name for path in shown.iterdir() if path.is_dir())
    assert folders == [f"t{number:04}" for number in range(1, TRIALS + 1)]


def test_the_same_name_without_resume_is_refused(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [word for word in story.arguments if word not in ("--resume", "auto")]
    refused = run_here(capsys, *arguments)
    assert refused.returncode == 2
    assert (
        "holds a search already; go on with it: python -m cifar_tune.tune resume" in refused.stderr
    )


def test_another_plan_for_the_same_search_is_refused_with_the_difference(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = run_here(capsys, *story.arguments, "--max-epochs", "9", "--set", "optim.name=adamw")
    assert refused.returncode == 2
    assert f"train.max_epochs was {EPOCHS} and is now 9" in refused.stderr
    assert "optim.name was 'sgd' and is now 'adamw'" in refused.stderr


def test_a_dry_run_of_going_on_tells_where_it_stands_and_changes_nothing(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (story.folder / FILE_NAME).read_bytes()
    shown = run_here(capsys, *story.arguments, "--dry-run")
    assert shown.returncode == 0
    assert f"{TRIALS} total, {TRIALS} completed" in shown.stdout
    assert (story.folder / FILE_NAME).read_bytes() == before


def test_data_that_is_not_there_any_more_is_refused(
    story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = run_here(capsys, "resume", str(story.folder), "--data-dir", str(tmp_path / "gone"))
    assert refused.returncode == 2
    assert f"{tmp_path / 'gone'}, which does not exist" in refused.stderr


def test_going_on_with_a_search_that_is_done_and_data_that_moved_tells_its_outcome(
    story: Story, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (story.folder / FILE_NAME).read_bytes()
    moved = shutil.copytree(image_folder, tmp_path / "moved")
    again = run_here(capsys, "resume", str(story.folder), "--data-dir", str(moved))
    assert again.returncode == 0
    assert "winner t000" in again.stdout
    assert (story.folder / FILE_NAME).read_bytes().count(b"test_opened") == 1
    assert (story.folder / FILE_NAME).read_bytes().startswith(before)


def test_a_storage_that_gives_its_reason_in_words_alone_is_told_by_them(tmp_path: Path) -> None:
    """As pyarrow's object stores do: no number of an error, and no file."""
    reason = "AWS Error NETWORK_CONNECTION during PutObject"
    with (
        pytest.raises(StorageError, match=f"written: {reason}; free space"),
        storage_errors(tmp_path),
    ):
        raise OSError(reason)


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOMEM, errno.EAGAIN])
def test_what_is_no_fault_of_the_storage_is_not_blamed_on_it(number: int, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=re.escape(os.strerror(number))), storage_errors(tmp_path):
        raise OSError(number, os.strerror(number))


def test_a_file_that_lies_elsewhere_is_told_by_its_own_name(tmp_path: Path) -> None:
    other = tmp_path / "cache" / "train.npy"
    message = f"^{other} failed: No such file or directory: {other}; "
    with pytest.raises(StorageError, match=message), storage_errors(tmp_path / "results"):
        other.read_bytes()


def test_a_search_that_ray_ends_by_itself_did_not_go_well(tmp_path: Path) -> None:
    """Ray may end one for reasons of its own; the trials that it leaves tell of it."""
    said: list[str] = []
    with story_told(tmp_path) as told:
        told.begin()
        told.end(told.create({"optim.lr": 0.1}), "interrupted")
        session = Session(
            recorder=told.recorder, data=None, machine=read_machine(), say=said.append,
            share=Share(cpus=1, gpus=0, slots=1), objective=cast(Any, None), ray=ExitStack(),
        )  # fmt: skip
        with pytest.raises(EndedError, match=r"^Ray ended the search by itself.*go on with") as end:
            finish(session, StopRequest(None, ""))
    assert end.value.exit_code == 1
    assert said[-1] == f"python -m cifar_tune.tune resume {tmp_path}"
    assert not told.recorder.results.finished
