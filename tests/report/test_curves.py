from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go
import pytest
from report.searches import SECONDS, WrittenSearch, usual

from cifar_tune.report import curves
from cifar_tune.report.style import caption_of


def figure_of(drawn: go.Figure | str) -> go.Figure:
    assert isinstance(drawn, go.Figure), drawn
    return drawn


def traces(figure: go.Figure) -> dict[str, go.Scatter]:
    return {trace.name: trace for trace in figure.data}


def test_learning_curves_show_rungs_ends_and_the_winner(tmp_path: Path) -> None:
    figure = figure_of(curves.learning_curves(usual(tmp_path).results))
    drawn = traces(figure)
    assert set(drawn) == {
        "completed", "end of completed", "stopped", "end of stopped", "diverged",
        "end of diverged", "failed", "end of failed", "winner t0004",
    }  # fmt: skip
    assert list(drawn["end of stopped"].customdata) == ["t0005", "t0006"]
    assert [shape.x0 for shape in figure.layout.shapes] == [1]  # asha's rung below epoch 3
    assert "2 were stopped early" in caption_of(figure)


@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
def test_what_a_diverged_trial_reports_does_not_stretch_the_axis(
    tmp_path: Path, metric: str
) -> None:
    search = usual(tmp_path, f"search.metric={metric}")
    figure = figure_of(curves.learning_curves(search.results))
    values = [value for trace in figure.data for value in trace.y if value is not None]
    assert max(values) < 2
    assert min(values) > 0


def test_exchanges_of_a_population_are_drawn_in_place_of_rungs(tmp_path: Path) -> None:
    search = WrittenSearch(
        tmp_path,
        "search.scheduler=pbt",
        "train.max_epochs=6",
        "search.space={optim.lr: {uniform: [0.01, 1.0]}}",
    )
    search.run([0.1, 0.2, 0.3], **{"optim.lr": 0.1})
    figure = figure_of(curves.learning_curves(search.results))
    assert [shape.x0 for shape in figure.layout.shapes] == [2, 4]
    assert "Exchanges after epoch 2, 4" in caption_of(figure)


def test_best_over_compute_ends_at_all_seconds_trained(tmp_path: Path) -> None:
    search = usual(tmp_path)
    figure = figure_of(curves.best_over_compute(search.results))
    line = figure.data[0]
    assert line.x[-1] == pytest.approx(search.results.epochs_run * SECONDS)
    assert list(line.y) == sorted(line.y)
    assert figure.layout.xaxis.title.text == "CPU seconds"


def test_a_search_without_reports_says_so(tmp_path: Path) -> None:
    search = WrittenSearch(tmp_path)
    search.create()
    assert curves.learning_curves(search.results) == curves.NOTHING_REPORTED
    assert curves.timeline(search.results) == curves.NOTHING_REPORTED
    assert "No trial" in str(curves.best_over_compute(search.results))


def test_the_timeline_has_a_bar_a_span_and_the_idle_rest(tmp_path: Path) -> None:
    search = usual(tmp_path)
    start = search.results.starts[0]
    start.began, start.ended = 1e9, 1e9 + 100 * SECONDS
    figure = figure_of(curves.timeline(search.results))
    drawn = traces(figure)
    assert len(drawn["completed"].text) == 4
    assert set(drawn["idle"].y) == {"slot 1", "slot 2"}
    assert "2 slots" in caption_of(figure)
