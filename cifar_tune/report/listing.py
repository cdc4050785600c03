"""The command `cifar-tune list`: every search in a folder, how it stands, its best, its cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from cifar_tune.errors import CifarTuneError, ResultsError, one_line
from cifar_tune.files import as_path
from cifar_tune.plan.abilities import score_name
from cifar_tune.plan.config import Plan
from cifar_tune.plan.parser import Parser
from cifar_tune.plan.task import in_words
from cifar_tune.process import check_shown, say
from cifar_tune.record.journal import FILE_NAME, read_journal
from cifar_tune.record.results import Results
from cifar_tune.record.tables import finals_of
from cifar_tune.report.state import state_of
from cifar_tune.report.words import duration, measured

HEADINGS = ("search", "state", "method", "trials", "best", "test", "epochs", "time")
GAP = "  "


def main(words: Sequence[str]) -> int:
    """Print a line a search; returns the exit code."""
    parser = Parser(
        prog="cifar-tune list",
        description="List the searches in a folder: how each stands, its best, what it cost.",
    )
    default = Plan.model_fields["out"].default
    parser.add_argument(
        "folder", nargs="?", default=default, metavar="DIR", help=f"of searches; {default} if none"
    )
    folder = as_path(parser.parse_args(words).folder).absolute()
    rows = list(searches_in(folder))
    if not rows:
        raise ResultsError(f"{folder} holds no search; give the folder that --out named")
    whole = [HEADINGS, *(row for row in rows if len(row) == len(HEADINGS))]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    for row in (HEADINGS, *rows):
        cells = [row[0].ljust(widths[0]), *row[1:]]
        if len(row) == len(HEADINGS):
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        say(GAP.join(cells).rstrip())
    check_shown()
    return 0


def searches_in(folder: Path) -> Iterator[tuple[str, ...]]:
    """A row a search, the oldest first, or its name and why it can't be read; `folder` may be one
    itself."""
    journals = [folder / FILE_NAME, *folder.glob(f"*/{FILE_NAME}")]
    rows = []
    for journal in journals:
        if not journal.is_file():
            continue
        try:
            rows.append(_row(journal.parent))
        except CifarTuneError as error:
            rows.append((0.0, (journal.parent.name, f"can't be read: {one_line(error)}")))
    return (row for _, row in sorted(rows, key=lambda one: (one[0], one[1])))


def _row(folder: Path) -> tuple[float, tuple[str, ...]]:
    """When a search began, and what is told of it."""
    records = read_journal(folder)
    results = Results.from_records(folder, records)
    search, winner, finals = results.plan.search, results.winner(), finals_of(results)
    best = "-"
    if winner is not None:
        best = f"{in_words(search.metric)} {measured(winner[search.metric])} ({winner['trial_id']})"
    test = "-"
    if finals is not None and finals["mean"] is not None:
        score = (finals["model"] or {}).get("score", finals["mean"])
        test = f"{score_name(results.plan)} {measured(score)}"
    ended = len(results.trials) - len(results.unfinished())
    cells = (
        folder.name,
        state_of(folder, records),
        f"{search.searcher} with {search.scheduler}",
        f"{ended} of {search.num_samples}",
        best,
        test,
        f"{results.epochs_run:,}",
        duration(results.cost()["wall_seconds"]),
    )
    return records.events[0]["time"], cells
