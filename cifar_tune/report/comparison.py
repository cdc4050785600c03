"""The command `cifar-tune compare`: several searches on one page, with a verdict."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from cifar_tune.errors import ResultsError, StorageError
from cifar_tune.files import as_path, write_atomically
from cifar_tune.plan.abilities import Scores, score_name
from cifar_tune.plan.parser import Parser
from cifar_tune.plan.task import in_words, task_of
from cifar_tune.process import say
from cifar_tune.record.journal import read_journal
from cifar_tune.record.results import Results
from cifar_tune.record.tables import finals_of
from cifar_tune.report.curves import best_by_compute
from cifar_tune.report.ledger import compute_unit
from cifar_tune.report.page import plot, template
from cifar_tune.report.state import state_of
from cifar_tune.report.style import BEST, COLOURS, NOTHING_JUDGED, finish
from cifar_tune.report.words import duration, measured

FILE_NAME = "comparison.html"
PALETTE = (BEST, *(COLOURS[name] for name in ("completed", "running", "diverged", "failed")))
COUNTS = ("train", "val", "confirm", "test")  # of a dataset's examples
DASHES = ("solid", "dash", "dot")
UNTOLD = {"name", "out"}  # of a plan: where a search lies is no difference


@dataclass(frozen=True)
class Compared:
    """One of the searches.

    Attributes:
        name: that tells it from the others.
        steps: compute spent, the best value since, and whose it is.
        finals: as `summary.json` has them, or none.
    """

    name: str
    state: str
    results: Results
    steps: list[tuple[float, float, str]]
    finals: dict[str, Any] | None

    @property
    def best(self) -> float | None:
        """The best value so far; none if no trial can be judged."""
        return self.steps[-1][1] if self.steps else None


def main(words: Sequence[str]) -> int:
    """Write the page, and print its verdict; returns the exit code."""
    parser = Parser(
        prog="cifar-tune compare",
        description="Compare searches on one page: the best so far against compute, a verdict, and"
        " what differs in their plans.",
    )
    parser.add_argument("folders", nargs="+", metavar="DIR", help="their results folders")
    parser.add_argument(
        "--out", metavar="FILE", default=FILE_NAME, help=f"the page; {FILE_NAME} if not given"
    )
    arguments = parser.parse_args(words)
    page = as_path(arguments.out).absolute()
    compared = read_all([as_path(folder).absolute() for folder in arguments.folders])
    try:
        write_atomically(page, render(compared))
    except OSError as error:
        raise StorageError(
            f"{page} can't be written: {error.strerror}; give another --out FILE"
        ) from None
    for sentence in verdict(compared):
        say(sentence)
    say(str(page))
    return 0


def read_all(folders: Sequence[Path]) -> list[Compared]:
    """The searches, under names that tell them apart.

    Raises:
        ResultsError: there are less than two, one twice, or they go by different metrics.
    """
    if len(set(folders)) < max(2, len(folders)):
        raise ResultsError(
            "to compare takes two different searches; give the results folders of two or more"
        )
    common = os.path.commonpath(folders)
    short = len({folder.name for folder in folders}) == len(folders)
    compared = []
    for folder in folders:
        records = read_journal(folder)
        results = Results.from_records(folder, records)
        name = folder.name if short else os.path.relpath(folder, common)
        steps = best_by_compute(results)
        finals = finals_of(results)
        compared.append(Compared(name, state_of(folder, records), results, steps, finals))
    goals = {one.name: _goal(one) for one in compared}
    if len(set(goals.values())) > 1:
        told = " and ".join(f"{name} goes by {goal}" for name, goal in goals.items())
        raise ResultsError(f"{told}; searches are compared by one metric: give others")
    return compared


def _goal(one: Compared) -> str:
    search = one.results.plan.search
    return f"{search.metric} ({search.mode})"


def verdict(compared: Sequence[Compared]) -> list[str]:
    """Sentences: whose models are better and how sure that is, and what they took."""
    data = [one.results.data for one in compared]
    if all(_differs(data, keys) for keys in (("source",), COUNTS)):
        return ["The searches ran on different data: no verdict, their figures can't be compared."]
    caveat = ""
    if _differs(data, ("fingerprint",)):
        caveat = (
            "The data differs in its fingerprint: it was prepared otherwise, or read by another"
            " module. What follows holds as far as it is the same."
        )
    told = [caveat, *_by_finals(compared), _by_search(compared), _by_compute(compared)]
    return [sentence for sentence in told if sentence]


def _differs(data: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> bool:
    return len({tuple(one.get(key) for key in keys) for one in data}) > 1


def _by_finals(compared: Sequence[Compared]) -> list[str]:
    """Of the mean scores of the final models: each against the best.

    An interval of a mean holds its seeds and its test examples; that of a difference is made as if
    the examples were not the same, which makes it wider than it need be.
    """
    plan = compared[0].results.plan
    task, mode = task_of(plan), plan.search.mode
    sign = -1 if (task.goal(plan).mode if isinstance(task, Scores) else mode) == "min" else 1
    scored = [(one, one.finals) for one in compared if one.finals and one.finals["ci95"]]
    missing = [one.name for one in compared if one not in [known for known, _ in scored]]
    told = []
    if missing:
        told.append(
            f"Without finals of at least 3 seeds (cifar-tune confirm DIR) there is no interval for"
            f" {', '.join(missing)}."
        )
    ranked = sorted(scored, key=lambda pair: -sign * pair[1]["mean"])
    for other, finals in ranked[1:]:
        best, leading = ranked[0]
        gap = abs(leading["mean"] - finals["mean"])
        half = math.hypot(*((high - low) / 2 for low, high in (leading["ci95"], finals["ci95"])))
        told.append(
            f"{best.name} is ahead of {other.name} by {measured(gap)} in test {score_name(plan)},"
            f" 95 % interval {measured(gap - half)} to {measured(gap + half)}: "
            + ("it is better." if gap > half else "they can't be told apart.")
        )
    return told


def _by_search(compared: Sequence[Compared]) -> str:
    search = compared[0].results.plan.search
    known = [one for one in compared if one.best is not None]
    ranked = sorted(known, key=lambda one: -search.sign * (one.best or 0.0))
    if not ranked:
        return NOTHING_JUDGED
    told = ", ".join(f"{one.name} {measured(one.best or 0.0)}" for one in ranked)
    return (
        f"The best {in_words(search.metric)} of each search, on the data that chose it and so"
        f" without an interval: {told}."
    )


def _by_compute(compared: Sequence[Compared]) -> str:
    """After how much compute each had what the least of them came to."""
    units = {compute_unit(one.results) for one in compared}
    if len(units) > 1 or any(one.best is None for one in compared):
        return ""
    sign, (unit,) = compared[0].results.plan.search.sign, units
    level = sign * min(sign * (one.best or 0.0) for one in compared)
    spent = {
        one.name: next(step[0] for step in one.steps if sign * step[1] >= sign * level)
        for one in compared
    }
    told = ", ".join(f"{name} after {measured(seconds)}" for name, seconds in spent.items())
    return f"{measured(level)}, which all came to, was reached in {unit} of training: {told}."


def figure_of(compared: Sequence[Compared]) -> go.Figure | str:
    """The best so far of each against compute, on one axis; or why it can't be drawn."""
    units = sorted({compute_unit(one.results) for one in compared})
    if len(units) > 1:
        return f"Some count {units[0]} and some {units[1]}, which have no common axis."
    if not any(one.steps for one in compared):
        return NOTHING_JUDGED
    figure, name = go.Figure(), in_words(compared[0].results.plan.search.metric)
    for number, one in enumerate(compared):
        figure.add_scatter(
            x=[step[0] for step in one.steps], y=[step[1] for step in one.steps],
            customdata=[step[2] for step in one.steps], mode="lines+markers", name=one.name,
            line={
                "color": PALETTE[number % len(PALETTE)], "width": 2.5, "shape": "hv",
                "dash": DASHES[number // len(PALETTE) % len(DASHES)],
            },
            marker={"size": 5},
            hovertemplate="%{customdata}: %{y:.3r} after %{x:.3r}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.update_layout(xaxis_title=f"{units[0]} of training", yaxis_title=name, showlegend=True)
    figure.update_xaxes(rangemode="tozero")
    return finish(figure, f"The best {name} until then, of each search.", 440)


def figures(compared: Sequence[Compared]) -> dict[str, list[str]]:
    """What each search came to and took, by the name of the figure."""
    plan, rows = compared[0].results.plan, dict[str, list[str]]()
    for one in compared:
        results, search, finals = one.results, one.results.plan.search, one.finals or {}
        interval, mean = finals.get("ci95"), finals.get("mean")
        told = {
            "state": one.state,
            "method": f"{search.searcher} with {search.scheduler}",
            "trials": f"{len(results.trials)} of {search.num_samples}",
            f"best {in_words(search.metric)}": "-" if one.best is None else measured(one.best),
            f"test {score_name(plan)}": "-" if mean is None else measured(mean),
            "95 % interval": " to ".join(map(measured, interval)) if interval else "-",
            "epochs run": f"{results.epochs_run:,}",
            "training": f"{measured(one.steps[-1][0] if one.steps else 0)} {compute_unit(results)}",
            "wall time": duration(results.cost()["wall_seconds"]),
        }
        for name, word in told.items():
            rows.setdefault(name, []).append(word)
    return rows


def differences(compared: Sequence[Compared]) -> dict[str, list[str]]:
    """What differs: a field of the plan, the data or a version, and what each search has there."""
    flat = []
    for one in compared:
        plan, results = one.results.plan.model_dump(mode="json"), one.results
        told = {key: value for key, value in plan.items() if key not in UNTOLD}
        versions = results.environment.get("versions", {})
        data = {"data": results.data.get("source"), "fingerprint": results.data.get("fingerprint")}
        flat.append(
            _flat({**told, "version": versions}) | {f"found {k}": v for k, v in data.items()}
        )
    fields = dict.fromkeys(field for values in flat for field in values)
    rows = {field: [_word(values.get(field)) for values in flat] for field in fields}
    return {field: row for field, row in rows.items() if len(set(row)) > 1}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields by their dotted names; a dimension of the space is one."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and not prefix.startswith("search.space."):
            flat |= _flat(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def _word(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value)


def render(compared: Sequence[Compared]) -> str:
    """The page."""
    return template("comparison.html").render(
        compared=compared,
        verdict=verdict(compared),
        plot=plot("compute", "Best so far against compute", figure_of(compared)),
        differences=differences(compared),
        figures=figures(compared),
    )
