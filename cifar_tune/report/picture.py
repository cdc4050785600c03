"""The live table as it stands at a moment: who leads, what runs, how long it will take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cifar_tune.plan.task import columns_of, in_words
from cifar_tune.record.results import Results
from cifar_tune.record.trials import ENDED, Trial
from cifar_tune.report.lines import Names, name_of
from cifar_tune.report.time_left import time_left
from cifar_tune.report.words import counted, duration, measured, setting, share

FRAME_LINES = 15  # of the picture without its running trials, with headings of three lines
BAR_WIDTH = 10
GAP = 2  # between columns
EDGES = 4  # columns that the frame takes


def picture(
    results: Results,
    elapsed: float,
    *,
    title: str = "",
    names: Names = (),
    width: int,
    height: int,
) -> RenderableType:
    """The table; under it stays an empty line for what the terminal echoes, such as ^C.

    Args:
        results: of the search; it may change meanwhile.
        elapsed: seconds since this start began.
        title, names: as in `progress_for`.
        width, height: of the terminal, in characters.
    """
    parts: list[RenderableType] = [] if title else list(_best(results))
    running = [trial for trial in list(results.trials.values()) if trial.status == "running"]
    room = max(1, height - FRAME_LINES - len(parts))
    if running:
        parts += [Text(), _running(results, running[:room], names, width)]
    if len(running) > room:
        parts.append(Text(f"and {len(running) - room} more running", style="dim"))
    lines = (_counts(results), *_time(results, elapsed))
    parts += [Text(), *(Text(line) for line in lines)]
    name = Text(title or results.folder.name, style="bold")
    frame = Panel(Group(*parts), title=name, title_align="left", border_style="dim", height=None)
    return Group(frame, Text())


def _best(results: Results) -> Iterator[RenderableType]:
    winner = results.winner()
    if winner is None:
        yield Text("no result yet", style="dim")
        return
    known = [name for name in columns_of(results.plan) if winner.get(name) is not None]
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append("best  ", style="dim")
    for name, style in zip(known, ["bold green", *[""] * len(known)], strict=False):
        line.append(f"{in_words(name)} ", style="dim")
        line.append(f"{measured(winner[name])}  ", style=style)
    line.append(f"{winner['trial_id']}, epoch {winner['epoch']}")
    yield line
    short = _short_names(winner["config"])
    told = "  ".join(f"{short[field]}={setting(v)}" for field, v in winner["config"].items())
    yield Text(told, style="cyan", no_wrap=True, overflow="ellipsis")


def _running(results: Results, trials: Sequence[Trial], names: Names, width: int) -> Table:
    """A row a trial, with the searched fields in which they differ, as far as those fit."""
    end, metric = results.plan.train.max_epochs, columns_of(results.plan)[0]
    columns = {
        "trial": [name_of(one.trial_id, results, names) for one in trials],
        "epoch": [f"{one.epochs}/{end}" for one in trials],
        in_words(metric).replace(" ", "\n"): [_newest(one, metric) for one in trials],
    }
    room = width - EDGES - BAR_WIDTH - GAP - sum(map(_width, columns.items()))
    for field, name in _short_names(_differing(trials)).items():
        cells = [setting(one.values[field]) if field in one.values else "-" for one in trials]
        heading = name.replace("_", "_\n")
        if _width((heading, cells)) <= room:
            columns[heading] = cells
            room -= _width((heading, cells))
    table = Table(box=None, padding=(0, GAP, 0, 0), header_style="dim")
    table.add_column("trial", no_wrap=True)
    table.add_column(width=BAR_WIDTH)
    for heading in list(columns)[1:]:
        table.add_column(heading, no_wrap=True, justify="right")
    for trial, (name, *cells) in zip(trials, zip(*columns.values(), strict=True), strict=True):
        bar = ProgressBar(
            total=end, completed=trial.epochs, width=BAR_WIDTH,
            complete_style="cyan", finished_style="cyan",
        )  # fmt: skip
        table.add_row(name, bar, *cells)
    return table


def _width(column: tuple[str, Sequence[str]]) -> int:
    heading, cells = column
    return GAP + max(map(len, (*heading.split("\n"), *cells)))


def _newest(trial: Trial, metric: str) -> str:
    curve = trial.curve(metric)
    return measured(curve[max(curve)]) if curve else "-"


def _differing(trials: Sequence[Trial]) -> list[str]:
    """The searched fields that tell these trials apart; of a single trial all."""
    fields = dict.fromkeys(field for trial in trials for field in trial.values)
    if len(trials) == 1:
        return list(fields)
    return [one for one in fields if len({str(trial.values.get(one)) for trial in trials}) > 1]


def _short_names(fields: Iterable[str]) -> dict[str, str]:
    """Fields without their sections, where that still tells them apart."""
    last = {field: field.rpartition(".")[2] for field in fields}
    often = Counter(last.values())
    return {field: name if often[name] == 1 else field for field, name in last.items()}


def _counts(results: Results) -> str:
    counts, total = results.counts(), results.plan.search.num_samples
    ended = sum(counts[status] for status in ENDED)
    named = [f"{counts[status]} {status}" for status in (*ENDED, "running") if counts[status]]
    waiting = counts["pending"] + counts["interrupted"]
    named += [f"{waiting} waiting"] if waiting else []
    return f"{ended} of {counted(total, 'trial')} ended" + "".join(f" · {one}" for one in named)


def _time(results: Results, elapsed: float) -> tuple[str, str]:
    ahead = time_left(results, elapsed)
    finals = ", finals included" if results.plan.finals.seeds else ""
    left = "time left unknown"
    if ahead.seconds is not None:
        left = f"about {duration(ahead.seconds)} left{finals}"
    busy = f"slots {share(results.cost()['utilisation'])} busy"
    epochs = f"{results.epochs_run} of about {max(ahead.epochs, results.epochs_run)} epochs"
    return f"{duration(elapsed)} elapsed · {left}", f"{epochs} · {busy}"
