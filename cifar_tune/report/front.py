"""Plots of a search with several objectives: each of them against the metric, the front marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from cifar_tune.plan.abilities import Exports, Scores
from cifar_tune.plan.objectives import Goal
from cifar_tune.plan.task import in_words, task_of
from cifar_tune.record.front import comparable, front
from cifar_tune.record.journal import AGAIN, confirm_command
from cifar_tune.record.results import Results
from cifar_tune.report.style import BEST, COLOURS, finish
from cifar_tune.report.words import counted, measured

WIDE = 20  # times the smallest value, from which on an axis is logarithmic
NONE_ENDED = (
    "No trial has run to its end with a figure for each objective yet; one that was stopped early"
    " can't be compared, for its costs are lower as well."
)

Values = Sequence[float]


def fronts(results: Results) -> dict[str, go.Figure | str]:
    """A plot of each objective but the metric, by its name; empty with the metric alone."""
    goals = results.plan.search.goals
    if len(goals) == 1:
        return {}
    known, best = comparable(results), front(results)
    return {goal.metric: _front(goals, n, known, best) for n, goal in enumerate(goals[1:], 1)}


def front_rows(results: Results) -> list[dict[str, Any]]:
    """The trials of the front as the page lists them, each with the command for its finals, if the
    task can hold some."""
    plan, best = results.plan, results.best()
    if len(plan.search.goals) == 1:
        return []
    more = [] if plan.finals.seeds else [f"--final-seeds {type(plan.finals)().seeds}"]
    more += [AGAIN] if results.test_openings else []
    able = isinstance(task_of(plan), Scores) and isinstance(task_of(plan), Exports)
    return [
        {
            "trial_id": name,
            "values": values,
            "is_best": best is not None and best.trial_id == name,
            "command": confirm_command(results.folder, f"--trials {name}", *more) if able else "",
        }
        for name, values in front(results).items()
    ]


def _front(
    goals: Sequence[Goal], number: int, known: Mapping[str, Values], best: Mapping[str, Values]
) -> go.Figure | str:
    """The objective of that number against the metric, the values in the order of the goals."""
    if not known:
        return NONE_ENDED
    metric, other = in_words(goals[0].metric), in_words(goals[number].metric)
    figure = go.Figure()
    others = {name: values for name, values in known.items() if name not in best}
    _add(figure, "ran to its end", others, number, {"color": COLOURS["completed"], "size": 8})
    along = dict(sorted(best.items(), key=lambda one: one[1][number]))
    look = {"color": BEST, "size": 11, "symbol": "diamond"}
    # With a third objective the points between two of them are no front of these two.
    _add(figure, "front", along, number, look, joined=len(goals) == 2)
    figure.update_layout(xaxis_title=other, yaxis_title=metric)
    costs = [values[number] for values in known.values()]
    if min(costs) > 0 and max(costs) > WIDE * min(costs):
        decades = max(costs) > WIDE**2 * min(costs)  # ticks at these alone
        figure.update_xaxes(type="log", dtick=1 if decades else None)
    direction = "more" if goals[number].mode == "max" else "less"
    caption = (
        f"{metric} against {other} ({direction} is better) of"
        f" {counted(len(known), 'trial')} that ran to the end; the front (diamonds) holds the"
        f" {len(best)} that no other is at least as good as in all of {len(goals)} objectives and"
        " better in one."
    )
    return finish(figure, caption, 420)


def _add(
    figure: go.Figure,
    name: str,
    trials: Mapping[str, Values],
    number: int,
    marker: dict[str, Any],
    *,
    joined: bool = False,
) -> None:
    if not trials:
        return
    hovers = [
        f"{trial}: {measured(values[0])} at {measured(values[number])}"
        for trial, values in trials.items()
    ]
    figure.add_scatter(
        x=[values[number] for values in trials.values()],
        y=[values[0] for values in trials.values()],
        customdata=hovers, mode="lines+markers" if joined else "markers", name=name, marker=marker,
        line={"color": BEST, "width": 1.5, "dash": "dot"},
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
