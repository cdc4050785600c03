"""Progress as lines: one an event, told by a real recorder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from told import story

from cifar_tune.plan.load import load_plan
from cifar_tune.report.lines import ProgressLines
from cifar_tune.report.progress import progress_for


def test_each_report_and_each_end_is_a_line_and_a_new_leader_is_named(tmp_path: Path) -> None:
    lines: list[str] = []
    with story(tmp_path, [ProgressLines(lines.append)]) as tell:
        tell.begin("train.max_epochs=3")
        tell.create({"optim.lr": 0.062654, "optim.name": "sgd"})
        tell.report("t0001", 1, 0.25)
        tell.report("t0001", 2, 0.2)
        tell.end("t0001", "stopped", "early stopping at epoch 2")
    told = [line.strip().partition("  ")[2] for line in lines]
    assert told == [
        "t0001  optim.lr=0.0627  optim.name=sgd",
        "t0001  epoch 1/3  validation accuracy 0.250  validation loss 0.750  <- best so far",
        "t0001  epoch 2/3  validation accuracy 0.200  validation loss 0.800",
        "t0001  stopped: early stopping at epoch 2",
    ]


def test_the_lecture_has_its_own_columns(tmp_path: Path) -> None:
    lines: list[str] = []
    columns = load_plan("lecture", []).tracking.columns
    with story(tmp_path, [ProgressLines(lines.append)]) as tell:
        tell.begin("train.max_epochs=3", f"tracking.columns={json.dumps(columns)}")
        tell.create({"optim.lr": 0.1})
        tell.report("t0001", 1, 0.25)
    assert lines[-1].endswith(
        "t0001  loss 0.750  accuracy 0.250  training_iteration 1/3  <- best so far"
    )


def test_a_trial_that_diverged_has_no_figure(tmp_path: Path) -> None:
    lines: list[str] = []
    with story(tmp_path, [ProgressLines(lines.append)]) as tell:
        tell.begin("train.max_epochs=3")
        tell.create({"optim.lr": 0.1})
        times = {"first_step_at": 1.0, "reported_at": 2.0}
        told = {"checkpoint": None, "done": True, "diverged": True}
        tell.recorder.write("result", trial_id="t0001", metrics={"epoch": 1, **times}, **told)
        tell.end("t0001", "diverged", "the loss is not finite")
    assert [line.partition("t0001  ")[2] for line in lines[1:]] == [
        "epoch 1/3", "diverged: the loss is not finite",
    ]  # fmt: skip


def test_trainings_of_the_finals_are_called_by_the_trials_of_the_search(tmp_path: Path) -> None:
    lines: list[str] = []
    names = ["t0030 seed 1", "t0004 seed 1"]
    with story(tmp_path, [ProgressLines(lines.append, names=names, leads=False)]) as tell:
        tell.begin("train.max_epochs=3")
        for rate in (0.1, 0.2):
            tell.report(tell.create({"optim.lr": rate}), 1, 0.25)
        tell.end("t0002", "failed", "RuntimeError: no bolts", kind="code")
    assert [line[8:] for line in lines] == [
        "t0030 seed 1  optim.lr=0.1",
        "t0030 seed 1  epoch 1/3  validation accuracy 0.250  validation loss 0.750",
        "t0004 seed 1  optim.lr=0.2",
        "t0004 seed 1  epoch 1/3  validation accuracy 0.250  validation loss 0.750",
        "t0004 seed 1  failed (code): RuntimeError: no bolts",
    ]


def test_crashes_lost_checkpoints_and_exchanges_are_lines(tmp_path: Path) -> None:
    lines: list[str] = []
    with story(tmp_path, [ProgressLines(lines.append)]) as tell:
        tell.begin()
        for _ in range(2):
            tell.create({"optim.lr": 0.1})
        tell.recorder.write("trial_retried", trial_id="t0001", kind="hung", reason="silence")
        tell.recorder.write("checkpoints_lost", trial_id="t0001", epochs=[1, 2], from_epoch=0)
        clone = {"trial_id": "t0002", "source": "t0001", "values": {"optim.lr": 0.12}}
        tell.recorder.write("exchanged", epoch=2, clones=[{**clone, "checkpoint": "none"}])
        tell.end("t0001", "failed", "RuntimeError: no bolts", kind="code")
    told = [line.strip().partition("  ")[2] for line in lines[2:]]
    assert told == [
        "t0001  hung, is tried again: silence",
        "t0001  checkpoint of epoch 1, 2 is damaged or gone",
        "t0002  takes over from t0001: optim.lr=0.12",
        "t0001  failed (code): RuntimeError: no bolts",
    ]


def test_quiet_progress_says_nothing(tmp_path: Path, capfd: object) -> None:
    silence = progress_for(print, sys.stdout, quiet=True)
    with story(tmp_path, [silence]) as tell:
        tell.begin()
        tell.create({"optim.lr": 0.1})
        tell.report("t0001", 1, 0.25)
        silence.close()
        assert silence in tell.recorder.observers
    assert tuple(capfd.readouterr()) == ("", "")  # type: ignore[attr-defined]
