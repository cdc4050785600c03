"""A search with several objectives in a real Ray, by real trainings: what is measured, and shown."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from cifar_tune.plan import preflight
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.machine import read_machine
from cifar_tune.record.journal import read_journal
from cifar_tune.record.results import Results
from cifar_tune.session.resume import resume_search
from cifar_tune.session.start import start_search

MACHINE = replace(read_machine(), cpus=2, gpus=0)


@pytest.fixture(scope="module")
def searched(
    tmp_path_factory: pytest.TempPathFactory, ray_session: None, small_plan: list[str]
) -> tuple[Path, list[str]]:
    """A narrow and a wide network; the folder, and the lines that were said."""
    folder = tmp_path_factory.mktemp("objectives") / "one"
    lines: list[str] = []
    plan = load_plan(None, [
        *small_plan, "search.objectives=[{val_accuracy: max}, {parameters: min}, {latency_ms: min}]",
        "search.searcher=grid", "search.scheduler=none", "train.max_epochs=1",
        "search.space={model.width: {grid: [2, 16]}}", f"out={folder.parent}", "name=one",
    ])  # fmt: skip
    assert start_search(preflight.check(plan, [MACHINE]), folder, MACHINE, lines.append) == 0
    return folder, lines


def test_parameters_are_reported_and_latencies_measured_once(
    searched: tuple[Path, list[str]],
) -> None:
    folder, lines = searched
    narrow, wide = Results.read(folder).trials.values()
    assert narrow.results[1]["parameters"] < wide.results[1]["parameters"] / 16
    assert all(trial.measured["latency_ms"] > 0 for trial in (narrow, wide))
    assert "The latency of 2 models is measured, one after the other." in lines
    assert resume_search(folder, MACHINE, lines.append) == 0
    assert len(read_journal(folder).of("measured")) == 2


def test_the_front_is_said_and_in_the_tables(searched: tuple[Path, list[str]]) -> None:
    folder, lines = searched
    results = Results.read(folder)
    place = lines.index("Of these no trial is better in every objective (the Pareto front):")
    front = json.loads((folder / "summary.json").read_text())["front"]
    accuracies = [trial.results[1]["val_accuracy"] for trial in results.trials.values()]
    assert front[0]["val_accuracy"] == max(accuracies)
    assert lines[place + 1].split()[0] == front[0]["trial_id"]
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["parameters"]) for row in rows] == [
        trial.results[1]["parameters"] for trial in results.trials.values()
    ]
    page = (folder / "report.html").read_text()
    assert "Several objectives" in page
    assert 'data-plot="front-2-plot"' in page
