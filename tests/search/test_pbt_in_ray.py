"""A population through a real Ray: exchanges, checkpoints that change hands, and a restart between."""

from __future__ import annotations

import signal
import zipfile
from pathlib import Path
from typing import Any

import pytest
from search import objectives
from search.searching import events, searching, stopped_after, unbroken_search

from cifar_tune.record.journal import Event
from cifar_tune.record.results import Results

pytestmark = pytest.mark.usefixtures("ray_session")

PLAN = (
    "search.scheduler=pbt", "search.num_samples=6", "train.max_epochs=6",
    "search.perturbation_interval=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Results:
    return unbroken_search(tmp_path_factory.mktemp("pbt") / "results", PLAN)


def test_every_member_trains_every_epoch_once(unbroken: Results) -> None:
    reported = [(e["trial_id"], e["metrics"]["epoch"]) for e in events(unbroken, "result")]
    everyone = [f"t{number:04}" for number in range(1, 7)]
    assert sorted(reported) == [(name, epoch) for name in everyone for epoch in range(1, 7)]
    assert unbroken.counts()["completed"] == 6


def test_the_worst_take_over_from_the_best_at_every_interval(unbroken: Results) -> None:
    exchanges = events(unbroken, "exchanged")
    assert [event["epoch"] for event in exchanges] == [2, 4]
    for event in exchanges:
        assert len(event["clones"]) == 2
        reports = [e for e in events(unbroken, "result") if e["metrics"]["epoch"] == event["epoch"]]
        ranked = [e["trial_id"] for e in sorted(reports, key=_worst_first)]
        assert {clone["trial_id"] for clone in event["clones"]} == set(ranked[:2])
        assert {clone["source"] for clone in event["clones"]} <= set(ranked[-2:])


def _worst_first(event: Event) -> tuple[float, int]:
    """Equals: the younger is the worse."""
    return event["metrics"]["val_accuracy"], -int(event["trial_id"][1:])


def test_a_clone_goes_on_with_the_weights_of_its_source(unbroken: Results) -> None:
    clone = events(unbroken, "exchanged")[-1]["clones"][0]
    trial = unbroken.trials[clone["trial_id"]]
    with zipfile.ZipFile(unbroken.folder / trial.checkpoints[6]) as archive:
        lineage = archive.read("epochs").decode().split()
    source = unbroken.trials[clone["source"]]
    assert [entry.split(":")[0] for entry in lineage[4:]] == [str(trial.seed)] * 2
    assert lineage[3].split(":")[0] == str(source.seed)
    assert lineage[4].split(":")[1] == f"{clone['values']['optim.lr']:.6g}"


def test_the_values_of_an_epoch_are_those_it_was_trained_with(unbroken: Results) -> None:
    clone = events(unbroken, "exchanged")[0]["clones"][0]
    trial = unbroken.trials[clone["trial_id"]]
    created = [e for e in events(unbroken, "trial_created") if e["trial_id"] == trial.trial_id]
    assert trial.values_at(2) == created[0]["values"]
    assert trial.values_at(3) == clone["values"]


@pytest.mark.faults
def test_a_restart_in_the_middle_leads_to_the_same_population(
    unbroken: Results, tmp_path: Path
) -> None:
    search = searching(tmp_path / "results")
    with stopped_after(tmp_path / "results", 15):
        _, stop = search(*PLAN, objective=objectives.slow_with_file)
    assert stop.signal == signal.SIGTERM
    results, stop = search(*PLAN, objective=objectives.with_file)
    assert stop.reason is None
    told = [[_without_path(c) for c in e["clones"]] for e in events(results, "exchanged")]
    expected = [[_without_path(c) for c in e["clones"]] for e in events(unbroken, "exchanged")]
    assert told == expected
    assert {name: t.values for name, t in results.trials.items()} == {
        name: t.values for name, t in unbroken.trials.items()
    }
    reported = [(e["trial_id"], e["metrics"]["epoch"]) for e in events(results, "result")]
    assert len(set(reported)) == len(reported) == 36


def test_a_lost_checkpoint_of_a_clone_costs_its_epochs_and_not_the_end_of_the_search(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "results"
    search = searching(folder)
    with stopped_after(folder, 13):
        search(*PLAN, objective=objectives.slow_with_file)
    inherited = list((folder / "ray" / "1").glob("*-from-*/*/model.ckpt"))
    assert inherited
    for path in inherited:
        path.write_bytes(path.read_bytes()[:50])
    results, stop = search(*PLAN, objective=objectives.with_file)
    assert stop.reason is None
    assert results.counts()["completed"] == 6
    assert len(events(results, "result")) <= 36 + 2 * len(inherited)
    lost = [e for e in events(results, "checkpoints_lost") if e.get("inherited")]
    assert lost
    assert all(results.trials[event["trial_id"]].values_at(6) for event in lost)


def _without_path(clone: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in clone.items() if key != "checkpoint"}
