"""Sides of a comparison, run in turn as programs of their own; medians, spread, ratios.

A side writes its outcome, numbers by name, as JSON to the file that it is given. Ratios are made
within a round, whose sides ran one after another, so a noisy hour hits both.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import quiet

Outcome = dict[str, float]
Command = Callable[[Path], Sequence[str]]  # a new folder of the side's own -> the words


def add_options(parser: argparse.ArgumentParser, rounds: int) -> None:
    """Add `--rounds` and what every benchmark has."""
    parser.add_argument("--rounds", type=int, default=rounds, metavar="N", help=f"({rounds})")
    quiet.add_options(parser)


def program(name: str, *words: object) -> list[str]:
    """The command of a program in this folder, by this interpreter."""
    return [sys.executable, str(Path(__file__).parent / name), *map(str, words)]


def run(command: Sequence[str], folder: Path) -> Outcome:
    """One side: what it wrote to `outcome.json`, and `wall_seconds`, start of the process included,
    where it did not write that itself.

    Raises:
        SystemExit: it ended with an error; its output is printed.
    """
    log = folder / "output.txt"
    began, started_at = time.monotonic(), time.time()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, cwd=folder, start_new_session=True
        )
        try:
            code = process.wait()
            wall = time.monotonic() - began
        finally:  # what it started must not slow the next one down, nor outlive a Ctrl-C
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}:\n{log.read_text()[-3000:]}")
    outcome = folder / "outcome.json"
    written = json.loads(outcome.read_text()) if outcome.exists() else {}
    return {"wall_seconds": wall, "started_at": started_at, **written}


def alternate(sides: Mapping[str, Command], rounds: int) -> dict[str, list[Outcome]]:
    """Run all sides in turn, `rounds` times, each in a new folder that is deleted afterwards.

    Every second round goes through them from the last to the first.
    """
    table: dict[str, list[Outcome]] = {name: [] for name in sides}
    for number in range(rounds):
        order = list(sides.items())
        for name, command in reversed(order) if number % 2 else order:
            with tempfile.TemporaryDirectory(prefix="bench") as place:
                folder = Path(place)
                table[name].append(run(command(folder), folder))
            shown = ", ".join(
                f"{key} {value:.4g}"
                for key, value in table[name][-1].items()
                if not key.endswith("_at")
            )
            print(f"round {number + 1}: {name:10} {shown}", flush=True)
    return table


def ratios(table: Mapping[str, Sequence[Outcome]], key: str, of: str, over: str) -> list[float]:
    """A figure of one side over another's, round by round."""
    pairs = zip(table[of], table[over], strict=True)
    return [one[key] / other[key] for one, other in pairs]


def between(first: Sequence[float], last: Sequence[float]) -> float:
    """Median seconds from a training's last report to the first step of the next.

    Args:
        first: Unix seconds of each training's first step; one runs at a time.
        last: Unix seconds of each training's last report.
    """
    gaps = [begun - ended for begun, ended in zip(sorted(first)[1:], sorted(last), strict=False)]
    return statistics.median(gaps) if gaps else float("nan")


def spread(values: Sequence[float]) -> str:
    """Median, and in brackets the lowest and highest."""
    middle = statistics.median(values)
    if len(values) == 1:
        return f"{middle:.4g} (n = 1)"
    return f"{middle:.4g} ({min(values):.4g} to {max(values):.4g}, n = {len(values)})"


def show(table: Mapping[str, Sequence[Outcome]], keys: Sequence[str], ours: str = "ours") -> None:
    """A row a side and figure, and for each peer how many times ours its figure is."""
    print()
    for name, outcomes in table.items():
        for key in keys:
            if values := [outcome[key] for outcome in outcomes if key in outcome]:
                print(f"{name:10} {key:24} {spread(values)}")
    for name in table:
        if name != ours:
            print(f"{name} / {ours}: {keys[0]} {spread(ratios(table, keys[0], name, ours))}")
