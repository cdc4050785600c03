"""Plots against epochs and time: learning curves, best against compute, trials over slots."""

from __future__ import annotations

from collections.abc import Iterable

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cifar_tune.plan.rungs import exchange_epochs, rung_epochs, rungs_below
from cifar_tune.record.results import Results
from cifar_tune.record.trials import STATUSES, Trial
from cifar_tune.report.judged import curve_of
from cifar_tune.report.ledger import compute_unit, share_of
from cifar_tune.report.plots import NOTHING_JUDGED
from cifar_tune.report.slots import Segment, Slots, slots_of
from cifar_tune.report.style import BEST, COLOURS, NEUTRAL, finish, metric_name

NOTHING_REPORTED = "No trial has reported an epoch yet."


def learning_curves(results: Results) -> go.Figure | str:
    """The metric by epoch of all trials, the rungs, and where trials were stopped.

    One trace a status, which a click on the legend hides: Optuna's plot has one a trial, and
    neither rungs nor ends.
    """
    metric, best = results.plan.search.metric, results.best()
    curves = {trial.trial_id: curve_of(trial, metric) for trial in results.trials.values()}
    if not any(curves.values()):
        return NOTHING_REPORTED
    figure = go.Figure()
    for status in STATUSES:
        group = [t for t in results.trials.values() if t.status == status and t is not best]
        _add_curves(figure, status, [(trial.trial_id, curves[trial.trial_id]) for trial in group])
    if best is not None:
        _add_best(figure, best, curves[best.trial_id])
    judged = _draw_rungs(figure, results)
    name = metric_name(metric)
    figure.update_layout(xaxis_title="epoch", yaxis_title=name)
    figure.update_xaxes(range=[0.8, results.plan.train.max_epochs + 0.2], tickformat="d")
    if metric == "val_loss" and min(min(curve.values()) for curve in curves.values() if curve) > 0:
        figure.update_yaxes(type="log")  # a high loss must not press the others together
    stopped = sum(trial.status == "stopped" for trial in results.trials.values())
    shown = sum(bool(curve) for curve in curves.values())
    caption = f"{name} by epoch of {shown} trials; {stopped} were stopped early (crosses). {judged}"
    return finish(figure, caption, 440)


def _add_curves(figure: go.Figure, status: str, curves: list[tuple[str, dict[int, float]]]) -> None:
    """All curves of one status as one line with gaps, and a mark at the end of each."""
    x: list[int | None] = []
    y: list[float | None] = []
    names: list[str] = []
    for trial_id, curve in curves:
        if curve:
            x += [*curve, None]
            y += [*(round(value, 6) for value in curve.values()), None]
            names += [trial_id] * (len(curve) + 1)
    if not x:
        return
    hover = "%{customdata}, epoch %{x}: %{y:.4f}<extra>" + status + "</extra>"
    figure.add_scatter(
        x=x, y=y, customdata=names, mode="lines", name=status, legendgroup=status,
        line={"color": COLOURS[status], "width": 1.3}, opacity=0.65, hovertemplate=hover,
    )  # fmt: skip
    ends = [(name, *list(curve.items())[-1]) for name, curve in curves if curve]
    symbol = {"stopped": "x", "diverged": "triangle-down", "failed": "cross"}.get(status, "circle")
    figure.add_scatter(
        x=[end[1] for end in ends], y=[end[2] for end in ends],
        customdata=[end[0] for end in ends], mode="markers", showlegend=False, legendgroup=status,
        name=f"end of {status}", marker={"color": COLOURS[status], "size": 8, "symbol": symbol},
        hovertemplate="%{customdata} ends here, epoch %{x}: %{y:.4f}<extra>" + status + "</extra>",
    )  # fmt: skip


def _add_best(figure: go.Figure, best: Trial, curve: dict[int, float]) -> None:
    figure.add_scatter(
        x=list(curve), y=list(curve.values()), mode="lines+markers", name=f"winner {best.trial_id}",
        line={"color": BEST, "width": 3}, marker={"size": 5},
        hovertemplate="%{fullData.name}, epoch %{x}: %{y:.4f}<extra></extra>",
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
    steps = _best_by_compute(results)
    if not steps:
        return NOTHING_JUDGED
    unit, name = compute_unit(results), metric_name(results.plan.search.metric)
    figure = go.Figure()
    figure.add_scatter(
        x=[step[0] for step in steps], y=[step[1] for step in steps],
        customdata=[step[2] for step in steps], mode="lines+markers", name="best so far",
        line={"color": BEST, "width": 2.5, "shape": "hv"}, marker={"size": 5},
        hovertemplate="%{customdata}: %{y:.4f} after %{x:.0f} " + unit + "<extra></extra>",
    )  # fmt: skip
    figure.update_layout(xaxis_title=unit, yaxis_title=name)
    figure.update_xaxes(rangemode="tozero")
    spent, last = steps[-1][0], steps[-1][1]
    near = next(step[0] for step in steps if abs(step[1] - last) <= 0.01 * abs(last))
    return finish(
        figure,
        f"The best {name}, {last:.4f}, after {spent:,.0f} {unit} of training; within 1 % of it"
        f" after {near:,.0f}.",
    )


def _best_by_compute(results: Results) -> list[tuple[float, float, str]]:
    """Compute spent, best value then, and whose, at each report that made a new best, and last."""
    search, share = results.plan.search, share_of(results)
    sign = 1 if search.mode == "max" else -1
    reports = sorted(_reports(results), key=lambda report: report[0])
    steps: list[tuple[float, float, str]] = []
    spent = 0.0
    for _, seconds, trial, epoch in reports:
        spent += seconds * share
        value = trial.results[epoch][search.metric]
        better = not steps or sign * value > sign * steps[-1][1]
        if epoch in trial.judged and better:
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


def timeline(results: Results) -> go.Figure | str:
    """Which trial ran when on which slot, and how many slots were busy."""
    slots = slots_of(results)
    if not slots.segments:
        return NOTHING_REPORTED
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.24, 0.76], vertical_spacing=0.04
    )
    times, busy = slots.busy_steps()
    figure.add_scatter(
        x=times, y=busy, line={"shape": "hv", "color": COLOURS["running"], "width": 1.5},
        fill="tozeroy", name="busy slots", hovertemplate="%{y} busy at %{x:.1f}<extra></extra>",
        row=1, col=1,
    )  # fmt: skip
    _add_idle(figure, slots)
    for status in STATUSES:
        ours = [one for one in slots.segments if results.trials[one.trial_id].status == status]
        if ours:
            _add_segments(figure, status, ours, slots.unit)
    for border in slots.borders:
        figure.add_vline(x=border, line={"color": NEUTRAL, "width": 1.5, "dash": "dash"})
    figure.update_layout(
        barmode="overlay",
        bargap=0.18,
        xaxis2_title=slots.unit,
        uniformtext={"minsize": 10, "mode": "hide"},
    )
    figure.update_yaxes(title_text="busy", range=[0, slots.count * 1.15], nticks=3, row=1, col=1)
    rows = [f"slot {number + 1}" for number in reversed(range(slots.count))]
    figure.update_yaxes(categoryorder="array", categoryarray=rows, row=2, col=1)
    if slots.count > 24:
        figure.update_yaxes(showticklabels=False, row=2, col=1)
    cost = results.cost()
    pauses = f" Dashed lines: the search was started {len(slots.borders) + 1} times." * bool(
        slots.borders
    )
    caption = (
        f"{len(results.trials)} trials over {slots.count} slots in {cost['wall_seconds']:,.0f} s;"
        f" {cost['utilisation']:.0%} of the slots' time went into training, the pale rest was idle"
        f" or spent on starts. The longest gap is {slots.longest_idle_seconds:,.0f} s.{pauses}"
    )
    figure = finish(figure, caption, min(900, 210 + 34 * slots.count))
    return figure.update_layout(hoverlabel={"align": "left"})


def _add_segments(figure: go.Figure, status: str, ours: list[Segment], unit: str) -> None:
    figure.add_bar(
        orientation="h", base=[one.begin for one in ours], x=[one.end - one.begin for one in ours],
        y=[f"slot {one.slot + 1}" for one in ours], name=status,
        text=[one.trial_id for one in ours],
        textposition="inside", insidetextanchor="middle", textangle=0,
        insidetextfont={"color": "#ffffff", "size": 11},
        marker={"color": COLOURS[status], "line": {"width": 0.6, "color": "#ffffff"}},
        hovertemplate="%{text}: %{base:.2f} and %{x:.2f} " + unit + " long<extra>" + status
        + "</extra>",
        row=2, col=1,
    )  # fmt: skip


def _add_idle(figure: go.Figure, slots: Slots) -> None:
    gaps = slots.gaps()
    if gaps:
        figure.add_bar(
            orientation="h", base=[gap.begin for gap in gaps], name="idle",
            x=[gap.end - gap.begin for gap in gaps], y=[f"slot {gap.slot + 1}" for gap in gaps],
            marker={"color": "rgba(128, 138, 152, 0.2)"},
            hovertemplate="idle for %{x:.2f} " + slots.unit + "<extra></extra>", row=2, col=1,
        )  # fmt: skip
