"""Plots of how the search went: the best so far by trial and by compute, and learning curves."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

import plotly.graph_objects as go

from cifar_tune.plan.rungs import exchange_epochs, rung_epochs, rungs_below
from cifar_tune.plan.task import in_words
from cifar_tune.record.results import Results
from cifar_tune.record.trials import STATUSES, Trial
from cifar_tune.report.judged import judged_trials
from cifar_tune.report.ledger import compute_unit, units_per_trial
from cifar_tune.report.style import (
    BEST,
    COLOURS,
    NEUTRAL,
    NOTHING_JUDGED,
    NOTHING_REPORTED,
    finish,
    logarithmic,
)
from cifar_tune.report.words import counted, measured


def best_so_far(results: Results) -> go.Figure | str:
    """Each trial's value in the order of suggestion, and the best until then."""
    trials, search, best = judged_trials(results), results.plan.search, results.best()
    if not trials or best is None:
        return NOTHING_JUDGED
    x = [one.trial.index + 1 for one in trials]
    better = max if search.mode == "max" else min
    values = list(accumulate((one.value for one in trials), better))
    figure = go.Figure()
    figure.add_scatter(
        x=x, y=[one.value for one in trials], customdata=[one.name for one in trials],
        mode="markers", name="trial", hovertemplate="%{customdata}: %{y:.3r}<extra></extra>",
        marker={"color": COLOURS["completed"], "size": 8, "opacity": 0.75},
    )  # fmt: skip
    figure.add_scatter(
        x=x, y=values, mode="lines", name="best so far",
        line={"color": BEST, "width": 2.5, "shape": "hv"},
        hovertemplate="best so far: %{y:.3r}<extra></extra>",
    )  # fmt: skip
    name = in_words(search.metric)
    figure.update_layout(xaxis_title="trial, in the order of suggestion", yaxis_title=name)
    if len(trials) == 1:
        figure.update_xaxes(tickvals=x)
    caption = (
        f"The best {name} {'rose' if search.mode == 'max' else 'fell'} from"
        f" {measured(trials[0].value)} (first trial) to {measured(values[-1])} ({best.trial_id})"
        f" over {counted(len(trials), 'trial')} that can be judged."
    )
    return finish(figure, caption)


def learning_curves(results: Results) -> go.Figure | str:
    """The metric by epoch of all trials, the rungs, and where trials were stopped.

    One trace a status, which a click on the legend hides: Optuna's plot has one a trial, and
    neither rungs nor ends.
    """
    plan, best = results.plan, results.best()
    metric = plan.search.metric
    curves = {trial.trial_id: trial.curve(metric) for trial in results.trials.values()}
    if not any(curves.values()):
        return NOTHING_REPORTED
    figure = go.Figure()
    for status in STATUSES:
        group = [t for t in results.trials.values() if t.status == status and t is not best]
        _add_curves(figure, status, [(trial.trial_id, curves[trial.trial_id]) for trial in group])
    if best is not None:
        _add_best(figure, best, curves[best.trial_id])
    judged = _draw_rungs(figure, results)
    name = in_words(metric)
    figure.update_layout(xaxis_title="epoch", yaxis_title=name)
    figure.update_xaxes(
        range=[0.8, plan.train.max_epochs + 0.2],
        tickformat="d",
        dtick=1 if plan.train.max_epochs < 10 else None,
    )
    if logarithmic([value for curve in curves.values() for value in curve.values()], plan.search):
        figure.update_yaxes(type="log")
    stopped = sum(trial.status == "stopped" for trial in results.trials.values())
    shown = sum(bool(curve) for curve in curves.values())
    ends = f"{stopped} stopped early (crosses)" if stopped else "none stopped early"
    caption = f"{name} by epoch of {counted(shown, 'trial')}, {ends}. {judged}"
    return finish(figure, caption, 440)


def _add_curves(figure: go.Figure, status: str, curves: list[tuple[str, dict[int, float]]]) -> None:
    """All curves of one status as one line with gaps, and a mark at the end of each."""
    x: list[int | None] = []
    y: list[float | None] = []
    names: list[str] = []
    curves = [(name, curve) for name, curve in curves if curve]
    if not curves:
        return
    for name, curve in curves:
        x += [*curve, None]
        y += [*(round(value, 6) for value in curve.values()), None]
        names += [name] * (len(curve) + 1)
    hover = "%{customdata}, epoch %{x}: %{y:.3r}<extra>" + status + "</extra>"
    figure.add_scatter(
        x=x, y=y, customdata=names, mode="lines", name=status, legendgroup=status,
        line={"color": COLOURS[status], "width": 1.3}, opacity=0.65, hovertemplate=hover,
    )  # fmt: skip
    ends = [(name, *list(curve.items())[-1]) for name, curve in curves]
    symbol = {"stopped": "x", "diverged": "triangle-down", "failed": "cross"}.get(status, "circle")
    figure.add_scatter(
        x=[end[1] for end in ends], y=[end[2] for end in ends],
        customdata=[end[0] for end in ends], mode="markers", showlegend=False, legendgroup=status,
        name=f"end of {status}", marker={"color": COLOURS[status], "size": 8, "symbol": symbol},
        hovertemplate="%{customdata} ends here, epoch %{x}: %{y:.3r}<extra>" + status + "</extra>",
    )  # fmt: skip


def _add_best(figure: go.Figure, best: Trial, curve: dict[int, float]) -> None:
    figure.add_scatter(
        x=list(curve), y=list(curve.values()), mode="lines+markers", name=f"winner {best.trial_id}",
        line={"color": BEST, "width": 3}, marker={"size": 5},
        hovertemplate="%{fullData.name}, epoch %{x}: %{y:.3r}<extra></extra>",
    )  # fmt: skip


def _draw_rungs(figure: go.Figure, results: Results) -> str:
    """Lines at the epochs at which trials are judged, and the sentence that names them."""
    plan = results.plan
    rungs = rungs_below(rung_epochs(plan), plan.train.max_epochs)
    exchanges = tuple(exchange_epochs(plan))
    epochs, word = (exchanges, "Exchanges") if exchanges else (rungs, "Rungs")
    for epoch in epochs:
        figure.add_vline(x=epoch, line={"color": NEUTRAL, "width": 1, "dash": "dot"})
    if epochs:
        return f"{word} after epoch {', '.join(map(str, epochs))} (dotted)."
    return f"The scheduler {plan.search.scheduler} has no fixed rungs."


def best_over_compute(results: Results) -> go.Figure | str:
    """The best value so far against the compute that was spent until then."""
    steps = best_by_compute(results)
    if not steps:
        return NOTHING_JUDGED
    unit, name = compute_unit(results), in_words(results.plan.search.metric)
    figure = go.Figure()
    figure.add_scatter(
        x=[step[0] for step in steps], y=[step[1] for step in steps],
        customdata=[step[2] for step in steps], mode="lines+markers", name="best so far",
        line={"color": BEST, "width": 2.5, "shape": "hv"}, marker={"size": 5},
        hovertemplate="%{customdata}: %{y:.3r} after %{x:.3r} " + unit + "<extra></extra>",
    )  # fmt: skip
    figure.update_layout(xaxis_title=unit, yaxis_title=name)
    figure.update_xaxes(rangemode="tozero")
    spent, last, _ = steps[-1]
    near = next(step[0] for step in steps if abs(step[1] - last) <= 0.01 * abs(last))
    return finish(
        figure,
        f"The best {name}, {measured(last)}, after {measured(spent)} {unit} of training; within 1 %"
        f" of it after {measured(near)}.",
    )


def best_by_compute(results: Results) -> list[tuple[float, float, str]]:
    """Compute spent, best value then, and whose, at each report that made a new best, and last."""
    search, units = results.plan.search, units_per_trial(results)
    reports = sorted(_reports(results), key=lambda report: report[0])
    steps: list[tuple[float, float, str]] = []
    spent = 0.0
    for _, seconds, trial, epoch in reports:
        spent += seconds * units
        if epoch in trial.judged:
            value = trial.results[epoch][search.metric]
            if not steps or search.sign * value > search.sign * steps[-1][1]:
                steps.append((spent, value, trial.trial_id))
    return [*steps, (spent, *steps[-1][1:])] if steps else []


def _reports(results: Results) -> Iterable[tuple[float, float, Trial, int]]:
    """Of every epoch reported: when (Unix seconds), how long it took, whose, and which."""
    for trial in results.trials.values():
        before: dict[float, float] = {}  # an attempt's last report, by its first step
        for epoch, metrics in sorted(trial.results.items()):
            first, now = metrics["first_step_at"], metrics["reported_at"]
            yield now, max(0.0, now - before.get(first, first)), trial, epoch
            before[first] = now
