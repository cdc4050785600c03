from __future__ import annotations

from pathlib import Path

import pytest
from report.searches import SECONDS, WrittenSearch, usual

from cifar_tune.report.ledger import ledger, nested_searches, saved_seconds


def test_the_ledger_adds_up(tmp_path: Path) -> None:
    results = usual(tmp_path, "resources.cpus_per_trial=3").results
    results.starts[0].began, results.starts[0].ended = 0.0, 100.0
    entries = {entry.name: entry for entry in ledger(results, {})}
    busy = sum(trial.busy_seconds for trial in results.trials.values())
    assert entries["training in the search"].amount == pytest.approx(3 * busy)
    assert entries["spent in all"].amount == pytest.approx(3 * 2 * 100)
    parts = [
        entry.part
        for name, entry in entries.items()
        if name in ("training in the search", "overhead")
    ]
    assert sum(part or 0 for part in parts) == pytest.approx(1)


def test_early_stopping_saves_the_epochs_of_stopped_trials_only(tmp_path: Path) -> None:
    epochs, seconds = saved_seconds(usual(tmp_path).results)
    assert (epochs, seconds) == (4, pytest.approx(4 * SECONDS))


def test_finals_are_found_and_counted(tmp_path: Path) -> None:
    results = usual(tmp_path).results
    nested = WrittenSearch(tmp_path / "finals" / "confirm-1")
    nested.run([0.5, 0.6, 0.7])
    (tmp_path / "finals" / "final-1").mkdir()
    finals = nested_searches(tmp_path)
    assert list(finals) == ["confirm-1"]
    assert "finals: confirm-1" in [entry.name for entry in ledger(results, finals)]


def test_a_search_that_has_done_nothing_has_spent_nothing(tmp_path: Path) -> None:
    entries = ledger(WrittenSearch(tmp_path).results, {})
    assert [entry.amount for entry in entries] == [0.0] * len(entries)
