"""Which trial ran when on which slot, and how many slots were busy."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cifar_tune.record.results import Results
from cifar_tune.record.trials import STATUSES
from cifar_tune.report.slots import Segment, Slots, slots_of
from cifar_tune.report.style import COLOURS, NEUTRAL, NOTHING_REPORTED, finish
from cifar_tune.report.words import counted, duration, share


def timeline(results: Results) -> go.Figure | str:
    """A row a slot, with a bar for each time that a trial ran there."""
    slots = slots_of(results)
    if not slots.segments:
        return NOTHING_REPORTED
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.24, 0.76], vertical_spacing=0.04
    )
    times, busy = slots.busy_steps()
    figure.add_scatter(
        x=times, y=busy, line={"shape": "hv", "color": COLOURS["running"], "width": 1.5},
        fill="tozeroy", name="busy slots", hovertemplate="%{y} busy at %{x:.3r}<extra></extra>",
        row=1, col=1,
    )  # fmt: skip
    _draw_slots(figure, slots, results)
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
    pauses = ""
    if slots.borders:
        pauses = f" Dashed lines: the search was started {len(slots.borders) + 1} times."
    caption = (
        f"{counted(len(results.trials), 'trial')} over {counted(slots.count, 'slot')} in"
        f" {duration(cost['wall_seconds'])}; {share(cost['utilisation'])} of the slots' time went"
        " into training, the pale rest was idle or spent on starts. The longest gap is"
        f" {duration(slots.longest_idle_seconds)}.{pauses}"
    )
    figure = finish(figure, caption, min(900, 210 + 34 * slots.count))
    return figure.update_layout(hoverlabel={"align": "left"})


def _draw_slots(figure: go.Figure, slots: Slots, results: Results) -> None:
    """A bar for each time that a trial ran on a slot, and a pale one for each that none did."""
    gaps = slots.gaps()
    if gaps:
        hover = "idle for %{x:.3r} " + slots.unit + "<extra></extra>"
        pale = {"color": "rgba(128, 138, 152, 0.2)"}
        _add_bars(figure, gaps, name="idle", marker=pale, hovertemplate=hover)
    for status in STATUSES:
        ours = [one for one in slots.segments if results.trials[one.trial_id].status == status]
        if ours:
            hover = "%{text}: from %{base:.3r}, %{x:.3r} " + slots.unit + " long"
            _add_bars(
                figure, ours, name=status, text=[one.trial_id for one in ours],
                textposition="inside", insidetextanchor="middle", textangle=0,
                insidetextfont={"color": "#ffffff", "size": 11},
                marker={"color": COLOURS[status], "line": {"width": 0.6, "color": "#ffffff"}},
                hovertemplate=f"{hover}<extra>{status}</extra>",
            )  # fmt: skip


def _add_bars(figure: go.Figure, ours: list[Segment], **look: Any) -> None:
    figure.add_bar(
        orientation="h", base=[one.begin for one in ours], x=[one.end - one.begin for one in ours],
        y=[f"slot {one.slot + 1}" for one in ours], row=2, col=1, **look,
    )  # fmt: skip
