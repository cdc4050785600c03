"""The plots and the table of several objectives: each point is of the trial that it names."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go
import pytest
from report.pages import Elements, plots_of, written
from report.searches import WrittenSearch

from cifar_tune.record.results import Results
from cifar_tune.report.front import NONE_ENDED, front_rows, fronts
from cifar_tune.report.style import caption_of

AIMS = "search.objectives=[{val_accuracy: max}, {latency_ms: min}, {val_macro_f1: max}]"
TWO = "search.objectives=[{val_accuracy: max}, {latency_ms: min}]"
SHOWN = ((0.7, 3.0), (0.9, 5.0), (0.8, 600.0), (0.6, 1.0))


def searched(folder: Path, aims: str) -> WrittenSearch:
    """Four trials that ran to their end and were timed, and one that was stopped early."""
    search = WrittenSearch(folder, aims)
    for accuracy, milliseconds in SHOWN:
        name = search.run([0.1, accuracy, 0.2])
        search.write("measured", trial_id=name, figures={"latency_ms": milliseconds})
    search.run([0.9], "stopped")
    return search


def points_of(figure: go.Figure | str) -> dict[str, tuple[float, float, str]]:
    """Place and look of each trial's point, by the name in its hover."""
    assert isinstance(figure, go.Figure), figure
    return {
        told.partition(":")[0]: (x, y, trace.name)
        for trace in figure.data
        for x, y, told in zip(trace.x, trace.y, trace.customdata, strict=True)
    }


def test_each_point_is_of_the_trial_that_it_names(tmp_path: Path) -> None:
    (figure,) = fronts(searched(tmp_path, TWO).results).values()
    looks = ("front", "front", "ran to its end", "front")
    assert points_of(figure) == {
        f"t000{number}": (milliseconds, accuracy, look)
        for number, ((accuracy, milliseconds), look) in enumerate(zip(SHOWN, looks, strict=True), 1)
    }
    assert isinstance(figure, go.Figure)
    assert figure.layout.xaxis.title.text == "latency ms"
    assert figure.layout.xaxis.type == "log"  # from 1 to 600
    front = next(trace for trace in figure.data if trace.name == "front")
    assert list(front.x) == sorted(front.x)
    assert "4 trials that ran to the end; the front (diamonds) holds the 3" in caption_of(figure)


def test_with_the_metric_alone_there_is_none(tmp_path: Path) -> None:
    search = WrittenSearch(tmp_path)
    search.run([0.5, 0.6, 0.7])
    assert fronts(search.results) == {}
    assert front_rows(search.results) == []


def test_before_a_trial_has_ended_the_reason_stands_there(tmp_path: Path) -> None:
    search = WrittenSearch(tmp_path, AIMS)
    search.run([0.9], "stopped")
    assert fronts(search.results) == {"latency_ms": NONE_ENDED, "val_macro_f1": NONE_ENDED}


@pytest.mark.parametrize("opened", [False, True])
def test_the_page_lists_the_front_with_the_command_for_each(
    tmp_path: Path, *, opened: bool
) -> None:
    search = searched(tmp_path, TWO)
    if opened:
        search.write("test_opened", trial_id="t0002", epoch=2, number=0, fingerprint="f")
    search.finish()
    page = written(tmp_path)
    assert "front-1" in plots_of(page)
    text = Elements(page).text
    again = " --open-test-again" if opened else ""
    assert f"t0002 0.900 5.00 cifar-tune confirm {tmp_path} --trials t0002{again}" in text
    assert "--trials t0003" not in text
    rows = front_rows(Results.read(tmp_path))
    assert [(row["trial_id"], row["is_best"]) for row in rows] == [
        ("t0002", True), ("t0001", False), ("t0004", False),
    ]  # fmt: skip
