"""Parallel coordinates: a line a trial, through its figure and all its searched fields.

Drawn from the trials themselves: Optuna's plot has its lines in an order of its own, without names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from cifar_tune.plan.space import Dimension
from cifar_tune.plan.task import in_words
from cifar_tune.record.results import Results
from cifar_tune.report import axes
from cifar_tune.report.fields import NOTHING_SEARCHED
from cifar_tune.report.judged import Judged, judged_trials
from cifar_tune.report.style import (
    BEST,
    NEUTRAL,
    NOTHING_JUDGED,
    WORSE_TO_BETTER,
    finish,
    logarithmic,
)
from cifar_tune.report.words import counted, measured, setting

SHADES = 10  # of the lines, by rank: so many traces draw faster than one a trial
UNSET = -0.09  # where a line passes the axis of a field that its trial does not have


def parallel_coordinates(results: Results) -> go.Figure | str:
    """The lines, the best on top."""
    search, trials = results.plan.search, judged_trials(results)
    space = search.parsed_space
    if not space:
        return NOTHING_SEARCHED
    if not trials:
        return NOTHING_JUDGED
    values = [one.value for one in trials]
    kind = "loguniform" if logarithmic(values, search) else "uniform"
    name = in_words(search.metric)
    metric = Dimension(field=name, kind=kind, low=min(values), high=max(values))
    drawn = [metric, *space]
    ranked = sorted(trials, key=lambda one: (search.sign * one.value, -one.trial.index))
    figure = go.Figure()
    for shade in range(SHADES):
        first, end = (len(ranked) * step // SHADES for step in (shade, shade + 1))
        _add_lines(figure, ranked[first:end], drawn, (shade + 1) / SHADES)
    winner = next(one for one in trials if one.trial is results.best())
    _add_lines(figure, [winner], drawn, 1.0, name=f"winner {winner.name}")
    _add_axes(figure, drawn)
    stopped = any(one.trial.status == "stopped" for one in trials)
    caption = (
        f"{counted(len(trials), 'trial')} as lines through {name} and"
        f" {counted(len(space), 'searched field')}; orange lines rank best, grey ones worst."
    )
    if stopped:
        caption += " Dotted ones were stopped early, and have the figure that they had reached."
    return finish(figure, caption, 430)


def _add_lines(
    figure: go.Figure,
    trials: Iterable[Judged],
    drawn: Sequence[Dimension],
    part: float,
    *,
    name: str = "",
) -> None:
    """The lines of trials of about the same rank: `part` is 0 for the worst and 1 for the best."""
    for dash in ("dot", "solid"):
        x: list[int | None] = []
        y: list[float | None] = []
        told: list[Any] = []
        for one in trials:
            if (one.trial.status == "stopped") == (dash == "dot"):
                line = _line(one, drawn)
                x += [*range(len(line)), None]
                y += [*(round(height, 4) for height, _ in line), None]
                told += [*([one.name, words] for _, words in line), None]
        if x:
            figure.add_scatter(
                x=x, y=y, customdata=told, mode="lines", name=name or f"{dash} {part:g}",
                showlegend=bool(name), opacity=1.0 if name else 0.45 + 0.4 * part,
                line={"color": BEST if name else sample_colorscale(WORSE_TO_BETTER, [part])[0],
                      "width": 3 if name else 1 + part, "dash": dash},
                hovertemplate="%{customdata[0]}: %{customdata[1]}<extra></extra>",
            )  # fmt: skip


def _line(one: Judged, drawn: Sequence[Dimension]) -> list[tuple[float, str]]:
    """Where the line of a trial crosses each axis, from 0 to 1, and what that means."""
    metric, *space = drawn
    told = f"{metric.field} {measured(one.value)} in epoch {one.epoch}"
    line = [(axes.place(metric, one.value), told)]
    for dimension in space:
        field, value = dimension.field, one.fields.get(dimension.field)
        known = field in one.fields
        height = axes.place(dimension, value) if known and dimension.holds(value) else UNSET
        line.append((height, f"{field} {setting(value)}" if known else f"{field} is not set"))
    return line


def _ticks(drawn: Sequence[Dimension]) -> list[tuple[int, float, str]]:
    """The number of an axis, a place on it, and the words there."""
    metric, *space = drawn
    ends = dict.fromkeys((metric.low, metric.high))
    ticks = [(0, axes.place(metric, value), measured(value)) for value in ends]
    for number, dimension in enumerate(space, 1):
        values = axes.ticks(dimension)
        ticks += [(number, axes.place(dimension, value), setting(value)) for value in values]
        if dimension.when:
            ticks.append((number, UNSET, "not set"))
    return ticks


def _add_axes(figure: go.Figure, drawn: Sequence[Dimension]) -> None:
    """The axes as upright lines, the words at their ticks, and their names below."""
    ticks, (metric, *space) = _ticks(drawn), drawn
    names = [metric.field.replace(" ", "<br>")]
    names += [dimension.field.replace(".", ".<br>") for dimension in space]
    for number in range(len(names)):
        figure.add_vline(x=number, line={"color": NEUTRAL, "width": 1}, layer="below")
    figure.add_scatter(
        x=[tick[0] for tick in ticks], y=[tick[1] for tick in ticks],
        text=[tick[2] for tick in ticks], mode="text", textposition="middle right",
        textfont={"size": 11}, hoverinfo="skip", showlegend=False, name="ticks",
    )  # fmt: skip
    figure.update_xaxes(
        showgrid=False, tickvals=list(range(len(names))), ticktext=names,
        range=[-0.2, len(names) - 0.45],
    )  # fmt: skip
    figure.update_yaxes(visible=False, range=[-0.14, 1.05], fixedrange=True)
    figure.update_layout(margin={"l": 30, "r": 10, "b": 56})
