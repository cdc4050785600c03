"""Puts the page together: all of a search's folder in one self-contained file, `report.html`."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, Template
from markupsafe import Markup, escape
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

from cifar_tune import __version__
from cifar_tune.files import write_atomically
from cifar_tune.plan.abilities import Panel, Panels
from cifar_tune.plan.task import columns_of, in_words, task_of
from cifar_tune.record.journal import locked, read_journal
from cifar_tune.record.ranking import best_epoch
from cifar_tune.record.results import Results
from cifar_tune.record.tables import failures, write_settings, write_tables
from cifar_tune.report import curves, fields
from cifar_tune.report.commands import commands_of, final_model
from cifar_tune.report.front import front_rows, fronts
from cifar_tune.report.headline import headline_of
from cifar_tune.report.ledger import compute_unit, ledger, nested_searches
from cifar_tune.report.parallel import parallel_coordinates
from cifar_tune.report.state import KILLED, state_of
from cifar_tune.report.style import caption_of, finish, plain
from cifar_tune.report.timeline import timeline
from cifar_tune.report.words import counted, duration, measured, setting, share

FILE_NAME = "report.html"


def write_report(folder: Path) -> Path:
    """Write `report.html` into a results folder, from what lies there and the data cache alone.

    Returns:
        Its path.

    Raises:
        ResultsError, JournalError: the folder holds no search that can be read.
        OSError: the page can't be written.
    """
    folder = folder.absolute()
    records, path = read_journal(folder), folder / FILE_NAME
    write_atomically(path, render(Results.from_records(folder, records), state_of(folder, records)))
    return path


def rebuild(folder: Path) -> Path:
    """Write all that can be made from the journal alone; the page's path.

    Raises:
        ResultsError: as `write_report`; also if a search is running there, which does it itself.
    """
    folder = folder.absolute()
    results = Results.read(folder)
    with locked(folder):
        write_settings(results)
        write_tables(results)
    return write_report(folder)


def render(results: Results, state: str) -> str:
    """The page of a search in that state."""
    if state == KILLED:  # nobody came to write down that these will not end
        for trial in results.trials.values():
            trial.status = "interrupted" if trial.status == "running" else trial.status
    finals = nested_searches(results.folder)
    return template("page.html").render(
        results=results,
        plan=results.plan,
        columns=columns_of(results.plan),
        state=state,
        answer=headline_of(results, finals),
        commands=commands_of(results),
        final_model=final_model(results),
        plots=_plots(results),
        fronts=_fronts(results),
        front=front_rows(results),
        slices=_slices(results),
        panels=_panels(results),
        failures=failures(results),
        ledger=ledger(results, finals),
        unit=compute_unit(results),
        trials=trial_rows(results),
        counts=results.counts(),
        cost=results.cost(),
    )


def template(name: str) -> Template:
    """A page's template, with what all pages need: filters, the plotting library, its nonce."""
    environment = Environment(
        loader=PackageLoader("cifar_tune.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        breakable=_breakable, counted=counted, duration=duration, figure=_figure, in_words=in_words,
        setting=setting, share=share,
    )  # fmt: skip
    environment.globals.update(
        version=__version__,
        written=time.strftime("%Y-%m-%d %H:%M:%S %z"),
        nonce=secrets.token_urlsafe(16),
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
    )
    return environment.get_template(name)


def _plots(results: Results) -> dict[str, Panel]:
    drawn: dict[str, tuple[str, go.Figure | str]] = {
        "best": ("Best so far, trial by trial", curves.best_so_far(results)),
        "compute": ("Best so far against compute", curves.best_over_compute(results)),
        "curves": ("Learning curves", curves.learning_curves(results)),
        "parallel": ("Parallel coordinates", parallel_coordinates(results)),
        "importances": ("Importance of each field", fields.importances(results)),
        "contour": ("Two fields together", fields.contour(results)),
        "timeline": ("Trials over slots", timeline(results)),
    }
    return {name: plot(name, title, figure) for name, (title, figure) in drawn.items()}


def _fronts(results: Results) -> list[Panel]:
    return [
        plot(f"front-{number}", in_words(name), figure)
        for number, (name, figure) in enumerate(fronts(results).items(), 1)
    ]


def _slices(results: Results) -> list[Panel]:
    slices = fields.slices(results)
    if isinstance(slices, str):
        return [plot("slice-1", "Slices", slices)]
    return [
        plot(f"slice-{number}", field, figure)
        for number, (field, figure) in enumerate(slices.items(), 1)
    ]


def plot(name: str, title: str, figure: go.Figure | str) -> Panel:
    """A plot as the template takes it, in JSON; or the reason why it is missing."""
    if isinstance(figure, str):
        return Panel(name=name, title=title, caption=figure)
    caption, content = caption_of(figure), Markup(inline_json(figure))
    height = figure.layout.height
    return Panel(name=name, title=title, caption=caption, figure=content, height=height)


def _panels(results: Results) -> list[Panel]:
    """What the task has to show."""
    task = task_of(results.plan)
    if not isinstance(task, Panels):
        return []
    try:
        return [_panel(panel) for panel in task.panels(results)]
    except Exception as error:  # it may be a user's own; the rest of the page is none of its
        reason = f"The task {results.plan.task} could not show its part: {error!r:.300}"
        return [Panel(name="task", title="From the task", caption=reason)]


def _panel(panel: Panel) -> Panel:
    name = f"task-{panel.name}"
    if panel.figure is None:
        return replace(panel, name=name)
    return plot(name, panel.title, finish(panel.figure, panel.caption, panel.height))


def inline_json(figure: go.Figure) -> str:
    """A plot as JSON that can stand in a script element: it can't end that, nor open another."""
    content = plain(figure.to_plotly_json())
    # plotly.py's default look, 7 KB a plot, which the page replaces
    content["layout"].pop("template", None)
    content["layout"].pop("meta", None)
    text: str = to_json_plotly(content)  # in which < and > are escaped
    return text


def trial_rows(results: Results) -> list[dict[str, Any]]:
    """The table of all trials, in the order of suggestion; none where one has no such figure."""
    search, columns, rows = results.plan.search, columns_of(results.plan), []
    for trial in sorted(results.trials.values(), key=lambda trial: trial.index):
        epoch = best_epoch(trial, search) if trial.curve(search.metric) else None
        metrics = trial.results[epoch] if epoch else {}
        values = trial.values_at(epoch or trial.epochs)
        row = {
            "trial_id": trial.trial_id,
            "status": trial.status,
            "epochs": trial.epochs,
            "best_epoch": epoch,
            "figures": [metrics.get(name) for name in columns],
            "seconds": trial.busy_seconds,
            "settings": [values.get(name) for name in search.space],
            "is_best": trial is results.best(),
        }
        rows.append(row)
    return rows


def _figure(value: float | None) -> str:
    """A measured figure, or nothing where there is none."""
    return "" if value is None else measured(value)


def _breakable(name: str) -> Markup:
    """A long name that may go on in the next line."""
    return Markup(escape(name).replace(".", Markup(".<wbr>")).replace("_", Markup("_<wbr>")))
