from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go
import pytest
from report.searches import WrittenSearch, usual

from cifar_tune.record.results import Results
from cifar_tune.report import plots
from cifar_tune.report.style import caption_of


def figure_of(drawn: go.Figure | str) -> go.Figure:
    assert isinstance(drawn, go.Figure), drawn
    return drawn


def test_best_so_far_only_gets_better_and_names_the_best(tmp_path: Path) -> None:
    figure = figure_of(plots.best_so_far(usual(tmp_path).results))
    points, line = figure.data
    assert list(line.x) == [1, 2, 3, 4, 5, 6]  # failed and diverged trials aren't judged
    assert list(line.y) == sorted(line.y)
    assert line.y[-1] == max(points.y) == 0.75
    assert "0.7500 (t0004)" in caption_of(figure)


def test_best_so_far_of_a_loss_goes_down(tmp_path: Path) -> None:
    figure = figure_of(plots.best_so_far(usual(tmp_path, "search.metric=val_loss").results))
    assert list(figure.data[1].y) == sorted(figure.data[1].y, reverse=True)
    assert "fell from" in caption_of(figure)


@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
def test_parallel_coordinates_draw_the_best_last_and_in_the_best_colour(
    tmp_path: Path, metric: str
) -> None:
    figure = figure_of(
        plots.parallel_coordinates(usual(tmp_path, f"search.metric={metric}").results)
    )
    assert figure.data[-2].name == "t0004"
    assert figure.data[-2].line.color == "rgb(229, 134, 6)"
    assert len(figure.data) == 6 + 1  # a line a judged trial, and the colour bar


def test_importances_sum_to_one_and_find_the_field_that_decides(tmp_path: Path) -> None:
    search = WrittenSearch(tmp_path, "search.num_samples=40")
    for number in range(40):
        rate = 0.01 + number * 0.02
        rest = {"optim.weight_decay": 1e-4 * (number * 7 % 40 + 1), "data.batch_size": 64}
        rest["optim.label_smoothing"] = 0.005 * (number * 11 % 40)
        search.run([0.9 - abs(rate - 0.3)], "stopped", **{"optim.lr": rate}, **rest)
    figure = figure_of(plots.importances(search.results))
    weights = dict(zip(figure.data[0].y, figure.data[0].x, strict=True))
    assert sum(weights.values()) == pytest.approx(1)
    assert max(weights, key=weights.__getitem__) == "optim.lr"
    assert "data.batch_size" not in weights  # it had one value only
    slices = plots.slices(search.results)
    assert isinstance(slices, dict)
    assert next(iter(slices)) == "optim.lr"
    contour = figure_of(plots.contour(search.results))
    assert "optim.lr" in (contour.layout.xaxis.title.text, contour.layout.yaxis.title.text)


def test_slices_name_each_point_by_its_trial(tmp_path: Path) -> None:
    slices = plots.slices(usual(tmp_path).results)
    assert isinstance(slices, dict)
    assert set(slices) == {
        "optim.lr", "optim.weight_decay", "optim.label_smoothing", "data.batch_size",
    }  # fmt: skip
    points = slices["optim.lr"].data[0]
    assert dict(zip(points.customdata, points.x, strict=True))["t0004"] == pytest.approx(0.08)


def test_powers_of_two_are_shown_as_themselves(tmp_path: Path) -> None:
    search = WrittenSearch(tmp_path, "search.space={model.width: {pow2: [4, 64]}}")
    for number, width in enumerate((4, 16, 64)):
        search.run([0.1 * number], **{"model.width": width})
    slices = plots.slices(search.results)
    assert isinstance(slices, dict)
    assert list(slices["model.width"].layout.xaxis.ticktext) == ["4", "8", "16", "32", "64"]
    assert "has 64" in caption_of(slices["model.width"])


def conditional(folder: Path) -> Results:
    search = WrittenSearch(
        folder,
        "search.space={optim.name: {choice: [sgd, adamw]},"
        " optim.nesterov: {choice: [true, false], when: {optim.name: sgd}},"
        " optim.gradient_clip: {uniform: [0, 1], when: {optim.name: adamw}}}",
    )
    for number in range(4):
        search.run([0.4 + 0.1 * number], **{"optim.name": "sgd", "optim.nesterov": number % 2 == 0})
        search.run([0.4], **{"optim.name": "adamw", "optim.gradient_clip": 0.2 * number})
    return search.results


def test_fields_with_conditions_and_words_have_their_plots(tmp_path: Path) -> None:
    results = conditional(tmp_path)
    slices = plots.slices(results)
    assert isinstance(slices, dict)
    assert {field: len(figure.data[0].x) for field, figure in slices.items()} == {
        "optim.name": 8, "optim.nesterov": 4, "optim.gradient_clip": 4,
    }  # fmt: skip
    figure_of(plots.parallel_coordinates(results))
    figure_of(plots.importances(results))


def test_a_contour_takes_fields_that_trials_have_together(tmp_path: Path) -> None:
    results = conditional(tmp_path)
    assert "No two fields vary among the trials that have both" in str(plots.contour(results))
    search = WrittenSearch(
        tmp_path / "three",
        "search.space={optim.name: {choice: [sgd, adamw]}, optim.lr: {uniform: [0.01, 1]},"
        " optim.momentum: {uniform: [0, 0.9], when: {optim.name: sgd}}}",
    )
    for number in range(4):
        values = {"optim.lr": 0.1 * (number + 1), "optim.momentum": 0.2 * number}
        search.run([0.5 + 0.1 * number], **{"optim.name": "sgd", **values})
        search.run([0.1], **{"optim.name": "adamw", "optim.lr": 0.15 * (number + 1)})
    figure = figure_of(plots.contour(search.results))
    titles = {figure.layout.xaxis.title.text, figure.layout.yaxis.title.text}
    assert titles != {"optim.name", "optim.momentum"}  # where there is momentum there is sgd


def test_each_plot_says_why_it_is_missing(tmp_path: Path) -> None:
    empty = WrittenSearch(tmp_path / "empty").results
    for plot in (plots.best_so_far, plots.parallel_coordinates, plots.importances, plots.slices,
                 plots.contour):  # fmt: skip
        assert plot(empty) == plots.NOTHING_JUDGED


def test_a_search_of_nothing_has_nothing_to_compare(tmp_path: Path) -> None:
    results = usual(tmp_path).results
    search = results.plan.search.model_copy(update={"space": {}})
    results.plan = results.plan.model_copy(update={"search": search})
    for plot in (plots.parallel_coordinates, plots.importances, plots.slices, plots.contour):
        assert plot(results) == plots.NOTHING_SEARCHED
    assert isinstance(plots.best_so_far(results), go.Figure)


def test_one_trial_and_one_field_are_enough_for_what_they_can_show(tmp_path: Path) -> None:
    search = WrittenSearch(tmp_path, "search.space={optim.lr: {loguniform: [0.01, 1.0]}}")
    search.run([0.5], **{"optim.lr": 0.1})
    assert isinstance(plots.parallel_coordinates(search.results), go.Figure)
    assert "needs at least 4" in str(plots.importances(search.results))
    for rate in (0.2, 0.3, 0.4):
        search.run([0.5 + rate], **{"optim.lr": rate})
    assert isinstance(plots.importances(search.results), go.Figure)
    assert "Only optim.lr varies" in str(plots.contour(search.results))


def test_trials_that_are_all_alike_are_said_to_be(tmp_path: Path) -> None:
    search = WrittenSearch(tmp_path, "search.space={optim.lr: {choice: [0.1, 0.2]}}")
    for _ in range(4):
        search.run([0.5], **{"optim.lr": 0.1})
    assert plots.importances(search.results) == plots.NOTHING_VARIED
