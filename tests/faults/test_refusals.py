"""Requests that can't be met and plans that can't be compared: refused in a line, nothing started."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from command_line import command, run
from ray_nodes import ray_nodes

from cifar_tune.errors import PlanError
from cifar_tune.plan.load import load_plan
from cifar_tune.session.changes import check_same_plan
from cifar_tune.tune import main

ODD = [
    ("--gpus-per-trial", "-1", "resources.gpus_per_trial is -1"),
    ("--gpus-per-trial", "-0.5", "resources.gpus_per_trial is -0.5"),
    ("--gpus-per-trial", "1.5", "give a share below 1, such as 0.5, or a whole number"),
    ("--gpus-per-trial", ".nan", "resources.gpus_per_trial is nan"),
    ("--gpus-per-trial", ".inf", "resources.gpus_per_trial is inf"),
    ("--gpus-per-trial", "1e300", "and this machine has 0 GPUs"),
    ("--cpus-per-trial", "-1", "resources.cpus_per_trial is -1"),
    ("--cpus-per-trial", "0", "resources.cpus_per_trial is 0"),
    ("--cpus-per-trial", "0.5", "resources.cpus_per_trial is 0.5"),
    ("--cpus-per-trial", "99999999999999999999", "and this machine has"),
    ("--max-concurrent", "0", "resources.max_concurrent is 0"),
    ("--max-concurrent", "-2", "resources.max_concurrent is -2"),
    ("--workers-per-trial", "0", "resources.workers_per_trial is 0"),
    ("--workers-per-trial", "4096", "--workers-per-trial is 4096"),
]


@pytest.mark.parametrize(("flag", "value", "message"), ODD)
def test_row_20_odd_resources_are_refused_and_no_ray_is_started(
    flag: str, value: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("Ray was started"))
    assert main([f"{flag}={value}"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert not any(tmp_path.iterdir())


@pytest.mark.faults
def test_row_20_a_good_search_runs_after_odd_requests_answered_within_five_seconds(
    small_plan: list[str], tmp_path: Path
) -> None:
    sets = [word for value in small_plan for word in ("--set", value)]
    place = ["--out", str(tmp_path), "--name", "one", "--num-samples", "1", "--max-epochs", "1"]
    for flag, value, _ in (ODD[0], ODD[2], ODD[6], ODD[9]):
        began = time.monotonic()
        assert run(*place, *sets, f"{flag}={value}").returncode == 2
        assert time.monotonic() - began < 5
    done = run(*place, *sets)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("search.space.optim.lr={loguniform: [1e-4, 1.0]}", "search.space"),
        ("search.metric=val_loss", "search.metric"),
        ("train.max_epochs=4", "train.max_epochs"),
        ("seed=7", "seed"),
        ("data.split_seed=7", "data.split_seed"),
        ("search.scheduler=median", "search.scheduler"),
        ("model.width=3", "model.width"),
    ],
)
def test_row_25_what_trials_are_compared_by_must_be_what_it_was(override: str, field: str) -> None:
    recorded, wanted = load_plan(None), load_plan(None, [override])
    with pytest.raises(PlanError, match=rf"{field} was .* and is now .*start a new search"):
        check_same_plan(recorded, wanted, wanted)


def test_row_25_where_and_how_a_search_runs_may_change() -> None:
    other = [
        "resources.cpus_per_trial=2", "resources.max_concurrent=1", "resources.address=10.0.0.1:6379",
        "tracking.wandb=project", "search.time_budget=20m", "data.path=/elsewhere", "out=/elsewhere",
    ]  # fmt: skip
    wanted = load_plan(None, other)
    check_same_plan(load_plan(None), wanted, wanted)


@pytest.mark.faults
def test_row_29_a_cluster_that_runs_here_is_not_joined(
    small_plan: list[str], tmp_path: Path
) -> None:
    sets = [word for value in (*small_plan, "train.max_epochs=1") for word in ("--set", value)]
    words = command("--out", str(tmp_path), "--name", "one", "--num-samples", "1", *sets)
    with ray_nodes(tmp_path / "c") as nodes:  # its head has no CPU: no trial would ever run there
        environment = {**os.environ, **nodes.environment, "RAY_ADDRESS": nodes.address}
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
