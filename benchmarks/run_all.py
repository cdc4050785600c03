"""Every comparison that fits into 15 minutes on two cores, one after another, and a line for each.

    python benchmarks/run_all.py --data-dir DIR [--out FOLDER]

The long ones run with fewer rounds and less work than by default, where a start weighs more: the
figures in docs/figures.md are from the programs alone. `same_accuracy.py` and `searchers.py` take
longer.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import quiet
import sides

SHORT: tuple[tuple[str, ...], ...] = (
    ("early_stopping.py", "--orders", "20"),
    ("input_pipeline.py", "--rounds", "5"),
    ("step_overhead.py",),
    ("step_overhead.py", "--numerics", "--steps", "20"),
    ("trial_start.py",),
    ("first_step.py", "--rounds", "1", "--next", "--samples", "5"),
    ("first_step.py", "--rounds", "1"),
    ("lecture_search.py", "--rounds", "1", "--samples", "2", "--images", "4000"),
    ("whole_search.py", "--rounds", "1", "--samples", "4", "--epochs", "2", "--images", "4000"),
    ("scale.py", "--trials", "60", "--slots", "2", "--no-kill", "--repeats", "1"),
    (
        "scale.py", "--trials", "300", "--slots", "2", "--seconds", "0", "--epochs", "30",
        "--no-kill", "--loggers", "--repeats", "1",
    ),
)  # fmt: skip
WANT_DATA = {"input_pipeline.py", "first_step.py", "lecture_search.py", "whole_search.py"}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-dir", metavar="DIR", required=True, help="images")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep output and JSON there")
    quiet.add_options(parser)
    arguments = parser.parse_args()
    quiet.begin(arguments)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    failed = [
        name
        for number, (name, *words) in enumerate(SHORT, 1)
        if _run(number, name, words, arguments)
    ]
    outcome = f"failed: {', '.join(failed)}" if failed else "all ran"
    print(f"{outcome}, in {(time.monotonic() - began) / 60:.1f} min")
    return len(failed)


def _run(number: int, name: str, words: list[str], arguments: argparse.Namespace) -> int:
    if name in WANT_DATA:
        words = [*words, "--data-dir", arguments.data_dir]
    if name != "early_stopping.py":
        words = [*words, "--force"]  # the machine was looked at, and is loaded by ourselves
    if arguments.out is not None:
        words = [*words, "--json", str(arguments.out / f"{number}-{name}.json")]
    print(f"\n== {name} {' '.join(words)}", flush=True)
    began = time.monotonic()
    code = subprocess.run(sides.program(name, *words), check=False).returncode
    print(f"== {name}: exit code {code} after {time.monotonic() - began:.0f} s", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
