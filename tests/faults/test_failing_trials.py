"""Trials that always crash, or whose figures are not finite, beside others that are well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import run
from search import objectives
from search.searching import Search, events, searching

from cifar_tune.record.journal import read_journal
from cifar_tune.record.results import Results

OWN = """
import torch
from torch import nn

class Odd(nn.Module):
    def __init__(self, width, num_classes):
        super().__init__()
        self.layer, self.width = nn.Linear(3072, num_classes), width

    def forward(self, x):
        return self.layer(x.flatten(1)) + ANSWER.get(self.width, 0.0)

ANSWER = {4: 0.0, 8: float("nan"), 16: float("inf")}

def build(config, num_classes):
    return Odd(config.width, num_classes)
"""


def broken(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """Seed 1 crashes in each try, after an epoch; the others are well."""
    if run.seed == 1:
        reporter.report(objectives.figures(1, objectives.curve(run, 1)))
        raise RuntimeError("the third bolt is loose")
    objectives.analytic(run, data, reporter, resume_from)


@pytest.mark.usefixtures("ray_session")
def test_row_16_a_trial_that_always_crashes_is_tried_max_failures_and_once_more(
    tmp_path: Path,
) -> None:
    search: Search = searching(tmp_path / "results")
    given = ("search.scheduler=none", "train.max_epochs=2", "search.num_samples=4")
    results, _ = search(*given, "search.max_failures=2", objective=_by_value())
    begun = [e["trial_id"] for e in events(results, "trial_started")]
    assert begun.count("t0002") == 3
    assert all(begun.count(name) == 1 for name in ("t0001", "t0003", "t0004"))
    assert results.trials["t0002"].status == "failed"
    assert results.counts()["completed"] == 3


def _by_value() -> Callable[..., None]:
    """Workers can't import modules of the tests by name."""
    import sys

    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return broken


@pytest.mark.faults
def test_row_17_nan_and_inf_diverge_in_their_first_epoch_and_are_never_best(
    image_folder: Path, tmp_path: Path, own_code: Callable[[str], str]
) -> None:
    done = run(*_arguments(image_folder, tmp_path, own_code(OWN)), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    results = Results.read(tmp_path / "one")
    told = {t.values["model.width"]: (t.status, t.epochs) for t in results.trials.values()}
    assert told == {4: ("completed", 2), 8: ("diverged", 1), 16: ("diverged", 1)}
    winner = results.winner()
    assert winner is not None
    assert winner["config"]["model.width"] == 4


@pytest.mark.faults
def test_row_34_where_every_trial_fails_the_exit_code_is_4_with_a_table_of_reasons(
    image_folder: Path, tmp_path: Path, own_code: Callable[[str], str]
) -> None:
    name = own_code(
        OWN.replace("return self.layer", "assert len(x) == 2, 'no bolts'; return self.layer")
    )
    done = run(*_arguments(image_folder, tmp_path, name), cwd=tmp_path)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "no trial is usable; the table above has the reasons" in done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if "no bolts" in line]
    table = [row for row in rows if row[:1] and row[0].startswith("t000") and row[1] == "code"]
    assert [(row[0], row[2]) for row in table] == [("t0001", "2"), ("t0002", "2"), ("t0003", "2")]
    assert len(read_journal(tmp_path / "one").of("trial_retried")) == 3


def _arguments(images: Path, out: Path, module: str) -> list[str]:
    given = [
        f"data.path={images}", "data.val_size=100", "data.confirm_size=50", "train.max_epochs=2",
        f"model.name={module}:build", "search.space={model.width: {grid: [4, 8, 16]}}",
        "search.searcher=grid", "search.scheduler=none", "finals.seeds=0", "search.num_samples=3",
    ]  # fmt: skip
    sets = [word for value in given for word in ("--set", value)]
    return ["--out", str(out), "--name", "one", *sets]
