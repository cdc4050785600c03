from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go
import pytest
from report.searches import SECONDS, WrittenSearch, mixed, usual

from cifar_tune.record.results import Results
from cifar_tune.report import curves
from cifar_tune.report.style import NOTHING_JUDGED, NOTHING_REPORTED, caption_of
from cifar_tune.report.timeline import timeline


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
    assert "2 stopped early" in caption_of(figure)


def test_best_so_far_only_gets_better_and_names_the_best(tmp_path: Path) -> None:
    figure = figure_of(curves.best_so_far(usual(tmp_path).results))
    points, line = figure.data
    assert list(line.x) == [1, 2, 3, 4, 5, 6]  # failed and diverged trials aren't judged
    assert list(line.y) == sorted(line.y)
    assert line.y[-1] == max(points.y) == 0.75
    assert "0.750 (t0004)" in caption_of(figure)


def test_best_so_far_of_a_loss_goes_down(tmp_path: Path) -> None:
    figure = figure_of(curves.best_so_far(usual(tmp_path, "search.metric=val_loss").results))
    assert list(figure.data[1].y) == sorted(figure.data[1].y, reverse=True)
    assert "fell from" in caption_of(figure)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return mixed(tmp_path_factory.mktemp("mixed")).results


def test_each_point_of_the_curves_is_that_of_its_trial(results: Results) -> None:
    drawn = traces(figure_of(curves.learning_curves(results)))
    seen: dict[str, dict[int, float]] = {}
    for trace in drawn.values():
        names = trace.customdata
        if names is None:
            names = [trace.name.removeprefix("winner ")] * len(trace.x)
        for name, epoch, value in zip(names, trace.x, trace.y, strict=True):
            if epoch is not None:
                told = results.trials[name].results[epoch]["val_accuracy"]
                assert value == pytest.approx(told, rel=1e-5)
                seen.setdefault(name, {})[epoch] = value
        if trace.name.startswith("end of"):
            for name, epoch in zip(names, trace.x, strict=True):
                assert epoch == max(results.trials[name].curve("val_accuracy"))
    for name, trial in results.trials.items():
        assert seen[name].keys() == trial.curve("val_accuracy").keys()


def test_each_point_of_the_best_so_far_is_that_of_its_trial(results: Results) -> None:
    points = figure_of(curves.best_so_far(results)).data[0]
    assert len(points.x) == sum(trial.usable for trial in results.trials.values())
    for name, number, value in zip(points.customdata, points.x, points.y, strict=True):
        trial = results.trials[name]
        assert number == trial.index + 1
        assert value == max(trial.curve("val_accuracy").values())
    steps = figure_of(curves.best_over_compute(results)).data[0]
    for name, value in zip(steps.customdata, steps.y, strict=True):
        assert value in results.trials[name].curve("val_accuracy").values()


def test_each_bar_of_the_timeline_is_that_of_its_trial(results: Results) -> None:
    start = results.starts[0]
    start.began, start.ended = 1e9, 1e9 + 1000 * SECONDS
    figure = figure_of(timeline(results))
    minutes = 60.0
    bars = [bar for bar in figure.data if bar.type == "bar" and bar.name != "idle"]
    for bar in bars:
        for name, begin, length in zip(bar.text, bar.base, bar.x, strict=True):
            ((first, last),) = results.trials[name].spans.items()
            assert results.trials[name].status == bar.name
            assert begin == pytest.approx((first - 1e9) / minutes)
            assert length == pytest.approx((last - first) / minutes)
    assert sum(len(bar.text) for bar in bars) == len(results.trials)


@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
def test_a_diverged_trial_of_an_earlier_version_does_not_stretch_the_axis(
    tmp_path: Path, metric: str
) -> None:
    search = usual(tmp_path, f"search.metric={metric}")
    name, times = search.create(), {"first_step_at": 1e9, "reported_at": 1e9 + 2}
    stand_in = {"epoch": 1, "val_accuracy": 0.0, "val_loss": 1e9, **times}
    search.write(
        "result", trial_id=name, metrics=stand_in, checkpoint=None, done=True, diverged=True
    )
    search.end(name, "diverged")
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
    assert curves.learning_curves(search.results) == NOTHING_REPORTED
    assert timeline(search.results) == NOTHING_REPORTED
    assert curves.best_over_compute(search.results) == NOTHING_JUDGED
    assert curves.best_so_far(search.results) == NOTHING_JUDGED


def test_the_timeline_has_a_bar_a_span_and_the_idle_rest(tmp_path: Path) -> None:
    search = usual(tmp_path)
    start = search.results.starts[0]
    start.began, start.ended = 1e9, 1e9 + 100 * SECONDS
    figure = figure_of(timeline(search.results))
    drawn = traces(figure)
    assert len(drawn["completed"].text) == 4
    assert set(drawn["idle"].y) == {"slot 1", "slot 2"}
    assert "2 slots" in caption_of(figure)
