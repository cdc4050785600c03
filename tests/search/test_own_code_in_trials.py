"""Code of the user's own in trials: where it runs, and that it can't end a trial unnoticed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from search import objectives
from search.searching import Search, searching

from cifar_tune.errors import PlanError

pytestmark = pytest.mark.usefixtures("ray_session")
FULL = ("search.scheduler=none", "train.max_epochs=3", "search.max_failures=0")


@pytest.fixture
def search(tmp_path: Path) -> Search:
    return searching(tmp_path / "results")


def leaving(by: Callable[[], Any]) -> Callable[..., None]:
    """An objective whose seed 1 leaves after its first epoch; the others are well."""

    def objective(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
        if run.seed == 1:
            reporter.report(objectives.figures(1, objectives.curve(run, 1)))
            by()
        objectives.analytic(run, data, reporter, resume_from)

    return objective


@pytest.mark.parametrize(
    ("by", "reason"),
    [
        (lambda: sys.exit(0), r"called sys.exit(0) at"),
        (lambda: os._exit(0), r"called os._exit(0) at"),
        (objectives.interrupt_itself, r"raised KeyboardInterrupt at"),
        (objectives.use_up, r"raised StopIteration at"),
    ],
)
def test_a_training_that_leaves_is_a_failed_trial_with_its_reason(
    by: Callable[[], Any], reason: str, search: Search
) -> None:
    """Ray takes `sys.exit(0)` and StopIteration for the end of a training that went well."""
    results, stop = search(*FULL, "search.num_samples=3", objective=leaving(by))
    left = results.trials["t0002"]
    assert (left.status, left.failures, left.epochs) == ("failed", ["code"], 1)
    assert f"code of your own {reason}" in left.reason
    assert results.counts()["completed"] == 2
    assert stop.reason is None


def test_early_stopping_still_ends_trials(search: Search) -> None:
    """It does so by a SystemExit in their report."""
    results, _ = search(
        "train.max_epochs=9", "search.num_samples=6", objective=objectives.worsening
    )
    assert results.counts()["stopped"] > 0


def test_a_trial_runs_where_the_command_was_given_whatever_the_one_before_it_did(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reading(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
        epochs = int(Path("epochs.txt").read_text())
        os.chdir("/")
        for epoch in range(1, epochs + 1):
            reporter.report(objectives.figures(epoch, objectives.curve(run, epoch)))

    place = tmp_path / "where the command is given"
    place.mkdir()
    (place / "epochs.txt").write_text("3")
    monkeypatch.chdir(place)
    results, _ = search(*FULL, "search.num_samples=4", objective=reading)
    assert results.counts()["completed"] == 4, [t.reason for t in results.trials.values()]


SEARCHER = """
class Leaver:
    def suggest(self, index, fixed):
        {suggest}
        return {{"optim.lr": 0.1}}

    def observe(self, event, results):
        {observe}

def factory(plan):
    {make}
    return Leaver()
"""


@pytest.mark.parametrize(
    ("place", "does", "message"),
    [
        ("make", "raise SystemExit", r"making it called sys\.exit\(\) at .*\.py:11"),
        (
            "suggest",
            "import os; os._exit(0)",
            r"asked for trial 1 it called os\._exit\(0\) at .*:4",
        ),
        ("suggest", "open('no such file')", r"asked for trial 1 it raised FileNotFoundError: .*:4"),
        ("observe", "raise KeyboardInterrupt", r"it raised KeyboardInterrupt at .*:8"),
    ],
)
def test_a_searcher_that_leaves_is_named_with_its_line(
    place: str, does: str, message: str, search: Search, own_code: Callable[[str], str]
) -> None:
    """A file that it misses is not taken for a storage that is gone."""
    parts = {"make": "pass", "suggest": "pass", "observe": "pass", place: does}
    name = f"{own_code(SEARCHER.format(**parts))}:factory"
    given = (*FULL, f"search.searcher={name}", "search.space={optim.lr: {uniform: [0.1, 1]}}")

    def begin() -> None:
        _, stop = search(*given, "search.num_samples=2")
        assert stop.error is not None
        raise stop.error

    with pytest.raises(PlanError, match=rf"^search\.searcher is '{name}'; .*{message}"):
        begin()
