"""Plots of the searched fields: their importance, one at a time, and two together.

Each takes a `Results` and nothing else, so that a notebook can show it too, and gives a figure or
the reason why there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from cifar_tune.plan.space import Dimension, Value
from cifar_tune.plan.task import in_words
from cifar_tune.record.results import Results
from cifar_tune.report import axes
from cifar_tune.report.judged import (
    Judged,
    at_equal_length,
    importances_of,
    judged_trials,
    varied,
)
from cifar_tune.report.style import (
    COLOURS,
    EARLY_TO_LATE,
    NEUTRAL,
    NOTHING_JUDGED,
    WORSE_TO_BETTER,
    finish,
)
from cifar_tune.report.words import counted, measured, setting

NOTHING_SEARCHED = "No field is searched, so there is nothing to compare."
NOTHING_VARIED = "All trials that can be judged have the same values of the searched fields so far."
FEWEST_FOR_IMPORTANCE = 4  # below it the best tenth is a trial, and the rest hardly a distribution
FEWEST_FOR_CONTOUR = 30  # below it the surface is drawn by chance
CELLS = 32  # of the contour's surface, along each axis
REACH = 0.09  # of an axis, over which a trial speaks for the surface around it
FAINT = 0.13  # weight of a single trial at twice that distance: no surface beyond


def importances(results: Results) -> go.Figure | str:
    """How much each searched field decides whether a trial is among the best (PED-ANOVA)."""
    length, trials = at_equal_length(results)
    reason = too_little(trials, results, FEWEST_FOR_IMPORTANCE)
    if reason:
        return reason
    weights = importances_of(trials, results)
    if not weights:
        return "No field sets the best trials apart from the others so far."
    figure = go.Figure()
    figure.add_bar(
        orientation="h", x=list(weights.values()), y=list(weights), name="importance",
        text=[measured(weight) for weight in weights.values()], textposition="outside",
        cliponaxis=False, marker={"color": COLOURS["completed"]},
        hovertemplate="%{y}: %{x:.3r}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(xaxis_title="importance (adds up to 1)", bargap=0.35)
    figure.update_xaxes(range=[0, max(0.1, 1.18 * max(weights.values()))])
    told = ", ".join(f"{field} {measured(weight)}" for field, weight in weights.items())
    rough = "; with fewer than 30 trials this is rough" if len(trials) < 30 else ""
    caption = (
        f"Importance for being among the best tenth, by PED-ANOVA over {_compared(length, trials)}"
        f"{rough}: {told}."
    )
    figure = finish(figure, caption, 120 + 40 * len(weights))
    return figure.update_yaxes(automargin=True, autorange="reversed")


def _compared(length: int, trials: Sequence[Judged]) -> str:
    """Which trials are compared, and by how much of them: figures of unequal lengths say little."""
    return f"the {counted(len(trials), 'trial')} that reached epoch {length}, each judged up to it"


def ranked_fields(results: Results) -> list[Dimension]:
    """The fields that vary, the most important first; in the space's order if that is open."""
    _, trials = at_equal_length(results)
    dimensions = varied(judged_trials(results), results)
    if len(trials) < FEWEST_FOR_IMPORTANCE or not varied(trials, results):
        return dimensions
    weights = importances_of(trials, results)
    return sorted(dimensions, key=lambda one: -weights.get(one.field, 0.0))


def slices(results: Results) -> dict[str, go.Figure] | str:
    """The metric against each searched field that varies, the most important first."""
    reason = too_little(judged_trials(results), results, 2)
    if reason:
        return reason
    return {dimension.field: _slice(dimension, results) for dimension in ranked_fields(results)}


def _slice(dimension: Dimension, results: Results) -> go.Figure:
    field, search = dimension.field, results.plan.search
    having = [one for one in judged_trials(results) if field in one.fields]
    best = max(having, key=lambda one: search.sign * one.value)
    name = in_words(search.metric)
    figure = go.Figure()
    figure.add_scatter(
        x=[axes.on_axis(dimension, one.fields[field]) for one in having],
        y=[one.value for one in having], customdata=[one.name for one in having],
        mode="markers", name="trial", hovertemplate="%{customdata}: %{x}, %{y:.3r}<extra></extra>",
        marker={"size": 8, "color": [one.trial.index for one in having],
                "colorscale": EARLY_TO_LATE, "line": {"width": 0.5, "color": NEUTRAL},
                "symbol": ["x" if one.trial.status == "stopped" else "circle" for one in having]},
    )  # fmt: skip
    figure.update_xaxes(title_text=field, **axes.axis_of(dimension))
    figure.update_yaxes(title_text=name)
    stopped = any(one.trial.status == "stopped" for one in having)
    caption = (
        f"{name} against {field} of {counted(len(having), 'trial')}; the best,"
        f" {measured(best.value)}, has {setting(best.fields[field])}. Bluer points came later"
        + ("; crosses were stopped early." if stopped else ".")
    )
    return finish(figure, caption, 290)


def contour(results: Results) -> go.Figure | str:
    """The metric over the two most important fields with numbers that trials have together."""
    length, trials = at_equal_length(results)
    reason = too_little(trials, results, FEWEST_FOR_CONTOUR)
    if reason:
        return reason
    some = varied(trials, results)
    ranked = [one for one in ranked_fields(results) if one in some and axes.has_order(one)]
    if len(ranked) < 2:
        told = f"only {ranked[0].field} is such a one" if ranked else "there is none"
        return f"A contour needs two fields with numbers that vary; {told}."
    pair = next((pair for pair in combinations(ranked, 2) if _meet(trials, pair)), None)
    if pair is None:
        return f"No two fields vary among at least {FEWEST_FOR_CONTOUR} trials that have both."
    both = _having(trials, pair)
    name, mode = in_words(results.plan.search.metric), results.plan.search.mode
    across, up = (axes.grid(one, CELLS) for one in pair)
    figure = go.Figure()
    figure.add_contour(
        x=[axes.on_axis(pair[0], value) for value in across],
        y=[axes.on_axis(pair[1], value) for value in up], z=_surface(both, pair, across, up),
        colorscale=WORSE_TO_BETTER, reversescale=mode == "min", colorbar={"thickness": 12},
        opacity=0.85, line={"width": 0}, hoverinfo="skip", name=name,
    )  # fmt: skip
    figure.add_scatter(
        x=[axes.on_axis(pair[0], one.fields[pair[0].field]) for one in both],
        y=[axes.on_axis(pair[1], one.fields[pair[1].field]) for one in both],
        customdata=[[one.name, measured(one.value)] for one in both], mode="markers", name="trial",
        marker={"color": "#ffffff", "size": 6, "line": {"width": 1, "color": "#20242c"}},
        hovertemplate="%{customdata[0]}: %{x}, %{y}, %{customdata[1]}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title_text=pair[0].field, **axes.axis_of(pair[0]))
    figure.update_yaxes(title_text=pair[1].field, **axes.axis_of(pair[1]))
    figure.update_layout(showlegend=False)
    caption = (
        f"{name} over {pair[0].field} and {pair[1].field}, the most important fields with numbers,"
        f" of {_compared(length, both)}; orange is best. The surface is the mean of the trials near"
        " by, and is left out where there are none."
    )
    return finish(figure, caption, 430)


def _surface(
    trials: Sequence[Judged],
    pair: tuple[Dimension, Dimension],
    across: Sequence[Value],
    up: Sequence[Value],
) -> list[list[float | None]]:
    """The mean of the trials around each cell, weighted by their distance: [up, across]."""
    east, north = _nearness(trials, pair[0], across), _nearness(trials, pair[1], up)
    values = np.array([one.value for one in trials])
    total = north @ east.T
    means = (north * values) @ east.T / np.maximum(total, 1e-12)
    surface = np.where(total > FAINT, means.round(6), np.nan).tolist()
    return [[None if math.isnan(mean) else mean for mean in row] for row in surface]


def _nearness(
    trials: Sequence[Judged], dimension: Dimension, values: Sequence[Value]
) -> NDArray[np.float64]:
    """How near each trial lies to each of the values along an axis, 0 to 1: [values, trials]."""
    cells = np.array([axes.place(dimension, value) for value in values])
    places = np.array([axes.place(dimension, one.fields[dimension.field]) for one in trials])
    near: NDArray[np.float64] = np.exp(-np.square(cells[:, None] - places) / (2 * REACH**2))
    return near


def _having(trials: Sequence[Judged], pair: tuple[Dimension, ...]) -> list[Judged]:
    """The trials that have both fields, with values of the space."""
    return [
        one
        for one in trials
        if all(part.field in one.fields and part.holds(one.fields[part.field]) for part in pair)
    ]


def _meet(trials: Sequence[Judged], pair: tuple[Dimension, ...]) -> bool:
    """Whether both vary among enough trials that have both: conditions may part them."""
    both = _having(trials, pair)
    return len(both) >= FEWEST_FOR_CONTOUR and all(
        len({one.fields[part.field] for one in both}) > 1 for part in pair
    )


def too_little(trials: Sequence[Judged], results: Results, fewest: int) -> str:
    """Why trials can't be compared by their fields, or nothing."""
    if not results.plan.search.parsed_space:
        return NOTHING_SEARCHED
    if not trials:
        return NOTHING_JUDGED
    if len(trials) < fewest:
        few = counted(len(trials), "trial")
        return f"{few} can be compared so far; this needs at least {fewest}."
    return "" if varied(trials, results) else NOTHING_VARIED
