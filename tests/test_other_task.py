"""The engine runs a task that has neither images nor accuracy, found by name as a user's own."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import command_line
import pytest
from analytic_task import NAME, BowlPlan

from cifar_tune import Results, load_plan
from cifar_tune.errors import PlanError
from cifar_tune.plan.rungs import first_rung
from cifar_tune.plan.task import columns_of, find_task, task_of

SMALL = (
    "search.num_samples=5",
    "train.max_epochs=4",
    "search.reduction_factor=2",
    "train.precision=32",
)


def test_a_plan_of_another_task_has_its_sections_and_no_other() -> None:
    plan = load_plan(None, [f"task={NAME}", "point.step=1.0"])
    assert isinstance(plan, BowlPlan)
    assert (plan.search.metric, plan.search.mode) == ("depth", "max")
    assert columns_of(plan) == ("depth", "place")
    assert task_of(plan) is find_task(NAME)
    with pytest.raises(PlanError, match=r"optim\.lr is not a field of the plan"):
        load_plan(None, [f"task={NAME}", "optim.lr=0.1"])
    with pytest.raises(
        PlanError, match=r"point\.y is not a field of the plan; did you mean point\.x"
    ):
        load_plan(None, [f"task={NAME}", "point.y=0.1"])


def test_without_a_word_of_the_task_the_first_rung_leaves_room_for_two() -> None:
    for epochs, first in ((27, 3), (9, 1), (100, 12), (1, 1)):
        plan = load_plan(None, [f"task={NAME}", f"train.max_epochs={epochs}"])
        assert first_rung(plan) == first


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("visoin", r"task is 'visoin'; it must be vision or lightning, or your own as package\.module:Task; did you mean vision"),
        ("analytic_task:Ball", r"can't be called as Task\(\)"),
        ("analytic_task:Opened", r"which has no "),
        ("nowhere_at_all:Task", r"no module nowhere_at_all"),
    ],
)  # fmt: skip
def test_what_is_no_task_is_refused_by_name(name: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        load_plan(None, [f"task={name}"])


LEAVING = f"""
from {NAME.partition(":")[0]} import {NAME.partition(":")[2]} as Made

class Leaving(Made):
    name = "leaving"

    def find(self, plan, *, recorded=None):
        print("looking")
        raise SystemExit("no such data")

class Unmade:
    def __init__(self):
        import os
        os._exit(0)
"""


def test_a_task_that_leaves_is_named_with_its_line(
    own_code: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    module = own_code(LEAVING)
    plan = load_plan(None, [f"task={module}:Leaving"])
    message = (
        rf"^task is '{module}:Leaving'; its find called sys\.exit\('no such data'\) at .*:9; it"
    )
    with pytest.raises(PlanError, match=message):
        task_of(plan).find(plan)
    assert capsys.readouterr().out == ""
    with pytest.raises(
        PlanError, match=r"making it called os\._exit\(0\) at .*:14; it must return"
    ):
        load_plan(None, [f"task={module}:Unmade"])


def test_a_search_of_another_task_ends_with_its_own_figures(tmp_path: Path) -> None:
    sets = [word for one in (f"task={NAME}", *SMALL) for word in ("--set", one)]
    here = Path(__file__).parent  # where the task's module lies
    done = command_line.run("tune", *sets, "--out", str(tmp_path), "--name", "bowl", cwd=here)
    assert done.returncode == 0, done.stdout + done.stderr
    results = Results.read(tmp_path / "bowl")
    assert results.finished
    assert results.counts()["completed"] + results.counts()["stopped"] == 5
    winner = results.winner()
    assert winner is not None
    nearest = min(results.trials.values(), key=lambda trial: abs(trial.values["point.x"] - 0.25))
    assert winner["trial_id"] == nearest.trial_id
    with (results.folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {
        "trial_id", "status", "epochs", "best_epoch", "depth", "place", "seed", "wall_seconds", "point.x",
    }  # fmt: skip
    assert f"depth {winner['depth']:.4f}" in done.stdout
    assert "accuracy" not in done.stdout
    assert "depth" in (results.folder / "report.html").read_text(encoding="utf-8")
