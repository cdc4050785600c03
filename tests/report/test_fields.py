"""Plots of the searched fields, by their data: what stands at a point is of the trial it names."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from report.searches import WrittenSearch, mixed, usual

from cifar_tune.record.ranking import best_epoch
from cifar_tune.record.results import Results
from cifar_tune.report import fields
from cifar_tune.report.judged import at_equal_length, judged_trials
from cifar_tune.report.parallel import UNSET, parallel_coordinates
from cifar_tune.report.style import NOTHING_JUDGED, caption_of
from cifar_tune.report.words import measured, setting


def figure_of(drawn: go.Figure | str) -> go.Figure:
    assert isinstance(drawn, go.Figure), drawn
    return drawn


def slices_of(results: Results) -> dict[str, go.Figure]:
    drawn = fields.slices(results)
    assert isinstance(drawn, dict), drawn
    return drawn


@pytest.fixture(scope="module", params=["val_accuracy", "val_loss"])
def results(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return mixed(tmp_path_factory.mktemp("mixed"), f"search.metric={request.param}").results


def value_of(results: Results, name: str) -> float:
    """What a trial is judged by, read from the journal's metrics alone."""
    metric = results.plan.search.metric
    values = [told[metric] for told in results.trials[name].results.values()]
    return max(values) if metric == "val_accuracy" else min(values)


def usable(results: Results) -> set[str]:
    return {name for name, trial in results.trials.items() if trial.status != "diverged"}


def lines_of(figure: go.Figure) -> dict[str, list[tuple[float, str]]]:
    """The points of each trial's line, in the order of the axes: height and words."""
    lines: dict[str, list[tuple[float, str]]] = {}
    for trace in figure.data:
        if trace.mode == "lines" and not trace.name.startswith("winner"):
            for x, y, told in zip(trace.x, trace.y, trace.customdata, strict=True):
                if x is not None:
                    lines.setdefault(told[0], []).append((y, told[1]))
                    assert len(lines[told[0]]) == x + 1, "a line goes from axis to axis"
    return lines


def test_each_line_of_the_parallel_coordinates_is_that_of_its_trial(results: Results) -> None:
    figure = figure_of(parallel_coordinates(results))
    lines, space = lines_of(figure), results.plan.search.parsed_space
    assert set(lines) == usable(results)
    sizes = {64: 0.0, 128: 0.5, 256: 1.0}
    for name, line in lines.items():
        values, value = results.trials[name].values, value_of(results, name)
        assert f" {measured(value)} in epoch" in line[0][1]
        at = {dimension.field: point for dimension, point in zip(space, line[1:], strict=True)}
        for field, (height, words) in at.items():
            known = field in values
            assert words == (
                f"{field} {setting(values[field])}" if known else f"{field} is not set"
            )
            assert (height == UNSET) != known
        rate: Any = values["optim.lr"]
        assert at["optim.lr"][0] == pytest.approx((math.log10(rate) + 3) / 3, abs=1e-4)
        assert at["data.batch_size"][0] == sizes[values["data.batch_size"]]  # type: ignore[index]
        assert at["optim.name"][0] == (values["optim.name"] == "adamw")


def test_higher_lines_and_better_colours_are_of_better_trials(results: Results) -> None:
    figure = figure_of(parallel_coordinates(results))
    heights = {name: line[0][0] for name, line in lines_of(figure).items()}
    by_height = sorted(heights, key=heights.__getitem__)
    by_value = sorted(heights, key=lambda name: value_of(results, name))
    assert by_height == by_value
    best = results.best()
    assert best is not None
    (winner,) = [trace for trace in figure.data if trace.name == f"winner {best.trial_id}"]
    assert winner.line.color == "#e58606"
    assert {told[0] for told in winner.customdata if told} == {best.trial_id}
    assert "dotted" in caption_of(figure).lower()
    for trace in figure.data:
        dotted = {told[0] for told in trace.customdata or () if told and trace.line.dash == "dot"}
        assert all(results.trials[name].status == "stopped" for name in dotted)


def test_each_point_of_a_slice_is_that_of_its_trial(results: Results) -> None:
    drawn = slices_of(results)
    assert set(drawn) == set(results.plan.search.space)
    for field, figure in drawn.items():
        points = figure.data[0]
        having = {name for name in usable(results) if field in results.trials[name].values}
        assert set(points.customdata) == having
        told = zip(points.customdata, points.x, points.y, points.marker.symbol, strict=True)
        for name, x, y, symbol in told:
            trial = results.trials[name]
            assert str(x) in (str(trial.values[field]), setting(trial.values[field]))
            assert y == value_of(results, name)
            assert (symbol == "x") == (trial.status == "stopped")


def test_each_point_of_the_contour_is_that_of_its_trial(results: Results) -> None:
    figure = figure_of(fields.contour(results))
    points, length = figure.data[1], at_equal_length(results)[0]
    across, up = figure.layout.xaxis.title.text, figure.layout.yaxis.title.text
    values = {one.name: one.value for one in at_equal_length(results)[1]}
    for (name, told), x, y in zip(points.customdata, points.x, points.y, strict=True):
        trial = results.trials[name]
        assert trial.epochs >= length
        assert [str(x), str(y)] == [str(trial.values[field]) for field in (across, up)]
        assert told == measured(values[name])
    assert len(set(dict(points.customdata))) == len(points.x) >= fields.FEWEST_FOR_CONTOUR


def test_trials_are_compared_over_the_same_epochs(results: Results) -> None:
    length, compared = at_equal_length(results)
    metric, sign = results.plan.search.metric, results.plan.search.sign
    assert sum(trial.epochs >= length for trial in results.trials.values()) >= 30
    assert all(one.epoch <= length <= one.trial.epochs for one in compared)
    for one in compared:
        told = [one.trial.results[epoch][metric] for epoch in range(1, length + 1)]
        assert one.value == max(told, key=lambda value: sign * value)
    said = f"the {len(compared)} trials that reached epoch {length}, each judged up to it"
    assert said in caption_of(figure_of(fields.importances(results)))
    assert f"trials that reached epoch {length}" in caption_of(figure_of(fields.contour(results)))


def test_a_few_short_trials_do_not_shorten_the_comparison(tmp_path: Path) -> None:
    search = WrittenSearch(tmp_path, "search.space={optim.lr: {uniform: [0.01, 1]}}")
    for number in range(8):
        epochs = 1 if number in (2, 5) else 3
        search.run([0.1, 0.2, 0.3][:epochs], "completed", **{"optim.lr": (number + 1) / 10})
    length, compared = at_equal_length(search.results)
    assert (length, len(compared)) == (3, 6)
    assert len(judged_trials(search.results)) == 8


def test_each_bar_of_the_importances_is_that_of_its_field(tmp_path: Path) -> None:
    """A field decides alone, and it is not the first: its bar is the longest, and named so."""
    search = WrittenSearch(tmp_path, "search.num_samples=40")
    for number in range(40):
        rate = 0.01 + number * 0.02
        rest = {"optim.weight_decay": 1e-4 * (number * 7 % 40 + 1), "data.batch_size": 64}
        rest["optim.label_smoothing"] = 0.005 * (number * 11 % 40)
        search.run([0.9 - abs(rate - 0.3)], "stopped", **rest, **{"optim.lr": rate})
    figure = figure_of(fields.importances(search.results))
    bars = figure.data[0]
    weights = dict(zip(bars.y, bars.x, strict=True))
    assert sum(weights.values()) == pytest.approx(1)
    assert max(weights, key=weights.__getitem__) == "optim.lr" == bars.y[0]
    assert list(bars.text) == [measured(weight) for weight in bars.x]
    assert "data.batch_size" not in weights  # it had one value only
    assert next(iter(slices_of(search.results))) == "optim.lr"
    contour = figure_of(fields.contour(search.results))
    assert "optim.lr" in (contour.layout.xaxis.title.text, contour.layout.yaxis.title.text)


def test_the_surface_is_high_where_trials_are_good_and_missing_where_there_are_none(
    tmp_path: Path,
) -> None:
    search = WrittenSearch(
        tmp_path,
        "search.space={optim.lr: {uniform: [0.01, 1]}, optim.momentum: {uniform: [0, 0.9]}}",
    )
    for number in range(40):  # nothing at high rates
        rate, momentum = 0.01 + 0.5 * (number % 10) / 10, 0.9 * (number // 10) / 3
        search.run([0.2 + rate], **{"optim.lr": rate, "optim.momentum": momentum})
    surface = figure_of(fields.contour(search.results)).data[0]
    field = "optim.lr" if surface.x[-1] == 1 else "optim.momentum"
    rows = surface.z if field == "optim.lr" else list(zip(*surface.z, strict=True))
    for row in rows:
        known = [value for value in row if value is not None]
        assert known == sorted(known)
        assert row[-1] is None


def test_there_is_no_contour_of_fewer_than_thirty_trials(tmp_path: Path) -> None:
    assert "needs at least 30" in str(fields.contour(mixed(tmp_path / "29", trials=29).results))
    figure_of(fields.contour(mixed(tmp_path / "40").results))


def test_a_contour_is_of_numbers_that_enough_trials_have_together(tmp_path: Path) -> None:
    search = WrittenSearch(
        tmp_path / "words", "search.space={optim.name: {choice: [sgd, adamw]},"
        " optim.lr: {uniform: [0.01, 1]}}",
    )  # fmt: skip
    for number in range(32):
        values = {"optim.name": ("sgd", "adamw")[number % 2], "optim.lr": 0.02 * (number + 1)}
        search.run([0.3 + 0.01 * number], **values)
    assert "only optim.lr is such a one" in str(fields.contour(search.results))
    apart = WrittenSearch(
        tmp_path / "apart", "search.space={optim.name: {choice: [sgd, adamw]},"
        " optim.momentum: {uniform: [0, 0.9], when: {optim.name: sgd}},"
        " optim.gradient_clip: {uniform: [0, 1], when: {optim.name: adamw}}}",
    )  # fmt: skip
    for number in range(20):
        apart.run([0.4], **{"optim.name": "sgd", "optim.momentum": 0.04 * number})
        apart.run([0.4], **{"optim.name": "adamw", "optim.gradient_clip": 0.05 * number})
    assert "at least 30 trials that have both" in str(fields.contour(apart.results))
    figure_of(parallel_coordinates(apart.results))
    figure_of(fields.importances(apart.results))


def test_powers_of_two_and_rates_are_shown_as_themselves(tmp_path: Path) -> None:
    search = WrittenSearch(
        tmp_path, "search.space={model.width: {pow2: [4, 64]}, optim.lr: {loguniform: [1e-3, 1]}}"
    )
    for number, width in enumerate((4, 16, 64)):
        search.run([0.1 * number], **{"model.width": width, "optim.lr": 0.002 * width})
    drawn = slices_of(search.results)
    assert list(drawn["model.width"].layout.xaxis.ticktext) == ["4", "8", "16", "32", "64"]
    assert list(drawn["optim.lr"].layout.xaxis.ticktext) == ["0.001", "0.01", "0.1", "1"]
    assert drawn["model.width"].layout.xaxis.type == "log"
    assert "has 64" in caption_of(drawn["model.width"])


def test_a_population_is_judged_by_the_values_of_the_epoch_that_counts(tmp_path: Path) -> None:
    search = WrittenSearch(
        tmp_path, "search.scheduler=pbt", "search.space={optim.lr: {uniform: [0.01, 1.0]}}"
    )
    for rate in (0.25, 0.5):
        name = search.create(**{"optim.lr": rate})
        search.report(name, 1, rate)
    clone = {
        "trial_id": "t0002",
        "source": "t0001",
        "values": {"optim.lr": 0.75},
        "checkpoint": "x",
    }
    search.write("exchanged", epoch=1, clones=[clone])
    search.report("t0002", 2, 0.1)  # worse than before
    assert [one.fields["optim.lr"] for one in judged_trials(search.results)] == [0.25, 0.5]
    search.report("t0002", 3, 0.9)
    assert [one.fields["optim.lr"] for one in judged_trials(search.results)] == [0.25, 0.75]
    trials = search.results.trials.values()
    assert [best_epoch(trial, search.plan.search) for trial in trials] == [1, 3]


def test_each_plot_says_why_it_is_missing(tmp_path: Path) -> None:
    empty = WrittenSearch(tmp_path / "empty").results
    for plot in (parallel_coordinates, fields.importances, fields.slices, fields.contour):
        assert plot(empty) == NOTHING_JUDGED


def test_a_search_of_nothing_has_nothing_to_compare(tmp_path: Path) -> None:
    results = usual(tmp_path).results
    search = results.plan.search.model_copy(update={"space": {}})
    results.plan = results.plan.model_copy(update={"search": search})
    for plot in (parallel_coordinates, fields.importances, fields.slices, fields.contour):
        assert plot(results) == fields.NOTHING_SEARCHED


def test_one_trial_and_one_field_are_enough_for_what_they_can_show(tmp_path: Path) -> None:
    search = WrittenSearch(tmp_path, "search.space={optim.lr: {loguniform: [0.01, 1.0]}}")
    search.run([0.5], **{"optim.lr": 0.1})
    assert isinstance(parallel_coordinates(search.results), go.Figure)
    assert "needs at least 4" in str(fields.importances(search.results))
    for rate in (0.2, 0.3, 0.4):
        search.run([0.5 + rate], **{"optim.lr": rate})
    assert isinstance(fields.importances(search.results), go.Figure)


def test_trials_that_are_all_alike_are_said_to_be(tmp_path: Path) -> None:
    search = WrittenSearch(tmp_path, "search.space={optim.lr: {choice: [0.1, 0.2]}}")
    for _ in range(4):
        search.run([0.5], **{"optim.lr": 0.1})
    assert fields.importances(search.results) == fields.NOTHING_VARIED
