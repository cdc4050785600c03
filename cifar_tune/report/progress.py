"""What shows a search while it runs: a live table in a terminal, lines elsewhere, or nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

from cifar_tune.plan.task import Say
from cifar_tune.process import is_terminal
from cifar_tune.report.lines import Names, ProgressLines

if TYPE_CHECKING:  # it is loaded where there is a terminal
    from cifar_tune.report.live import LiveTable


def progress_for(
    say: Say, stream: TextIO | None, *, quiet: bool = False, title: str = "", names: Names = ()
) -> ProgressLines | LiveTable:
    """A live table where `stream` is a terminal, else lines through `say`; with `quiet` nothing.

    Args:
        say: shows a line.
        stream: where `say` writes.
        quiet: whether only warnings and the outcome are wanted, which come from elsewhere.
        title: of trainings among which nobody is chosen; the table says it in place of a name.
        names: what trials are called in place of their ids, by their index.
    """
    if quiet:
        return ProgressLines(lambda _: None)
    # A terminal that can't move its cursor calls itself dumb.
    dumb = os.environ.get("TERM", "dumb") in ("dumb", "unknown", "")
    if stream is not None and is_terminal(stream) and not dumb:
        from cifar_tune.report.live import LiveTable

        return LiveTable(stream, title=title, names=names)
    return ProgressLines(say, names=names, leads=not title)
