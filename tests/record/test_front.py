"""The front of a search with several objectives, from its journal alone."""

from __future__ import annotations

import json
from pathlib import Path

from report.searches import WrittenSearch

from cifar_tune.record.front import comparable, front
from cifar_tune.record.results import Results
from cifar_tune.record.tables import trials_csv, write_tables

AIMS = "search.objectives=[{val_accuracy: max}, {train_seconds: min}, {latency_ms: min}]"


def timed(search: WrittenSearch, name: str, milliseconds: float) -> None:
    search.write("measured", trial_id=name, figures={"latency_ms": milliseconds})


def test_a_trial_on_the_front_is_worse_than_none_in_all_objectives(tmp_path: Path) -> None:
    search = WrittenSearch(tmp_path, AIMS)
    for accuracy, milliseconds in ((0.7, 3.0), (0.9, 5.0), (0.8, 6.0), (0.6, 1.0), (0.9, 5.0)):
        timed(search, search.run([0.1, accuracy, 0.2]), milliseconds)
    assert list(comparable(search.results)) == ["t0002", "t0005", "t0003", "t0001", "t0004"]
    assert front(search.results) == {
        "t0002": [0.9, 6.0, 5.0],
        "t0005": [0.9, 6.0, 5.0],  # equal in all: neither is better
        "t0001": [0.7, 6.0, 3.0],
        "t0004": [0.6, 6.0, 1.0],
    }


def test_what_was_stopped_early_can_not_be_compared(tmp_path: Path) -> None:
    """It took less time because it was stopped, not because it is fast."""
    search = WrittenSearch(tmp_path, AIMS)
    for status in ("completed", "stopped", "failed", "diverged"):
        timed(search, search.run([0.5] * (3 if status == "completed" else 1), status), 1.0)
    search.run([0.9, 0.9, 0.9])  # not timed yet
    assert list(front(search.results)) == ["t0001"]


def test_figures_that_are_measured_later_are_in_the_journal(tmp_path: Path) -> None:
    search = WrittenSearch(tmp_path, AIMS)
    timed(search, search.run([0.5, 0.6, 0.7]), 2.5)
    search.finish()
    assert Results.read(tmp_path).trials["t0001"].measured == {"latency_ms": 2.5}
    assert front(Results.read(tmp_path)) == {"t0001": [0.7, 6.0, 2.5]}


def test_the_summary_has_the_front(tmp_path: Path) -> None:
    search = WrittenSearch(tmp_path / "a", AIMS)
    timed(search, search.run([0.5, 0.6, 0.7]), 2.5)
    write_tables(search.results)
    told = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert told["front"] == [
        {"trial_id": "t0001", "val_accuracy": 0.7, "train_seconds": 6.0, "latency_ms": 2.5}
    ]
    alone = WrittenSearch(tmp_path / "b")
    write_tables(alone.results)
    assert "front" not in json.loads((tmp_path / "b" / "summary.json").read_text())


def test_reported_objectives_are_columns(tmp_path: Path) -> None:
    aims = "search.objectives=[{val_accuracy: max}, {parameters: min}, {val_macro_f1: max}]"
    header = trials_csv(WrittenSearch(tmp_path, aims).results).splitlines()[0].split(",")
    assert header[4:8] == ["val_accuracy", "val_loss", "val_macro_f1", "parameters"]
