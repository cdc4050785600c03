"""What a report costs the driver: our journal and all that reads it, against Ray's default loggers.

    python benchmarks/report_cost.py

Both sides run trials that only report, through Tune in a driver of its own. Timed is what
the driver spends in callbacks on each report: ours writes and fsyncs the journal, then tables,
TensorBoard's files, progress and the page hear of it; Ray's are its CSV, JSON and TensorBoard
loggers, which wait for no disk.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import quiet
import scale
import sides

from cifar_tune.load import load_plan
from cifar_tune.machine import read_machine

SLOTS = 2
CPU, WALL = "cpu_ms_a_report", "wall_ms_a_report"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=20, help="of each side (20)")
    parser.add_argument("--epochs", type=int, default=20, help="reports of a trial (20)")
    parser.add_argument("--side", choices=("ours", "loggers"), help=argparse.SUPPRESS)
    sides.add_options(parser, rounds=5)
    arguments = parser.parse_args()
    if arguments.side is not None:
        _run_side(arguments)
        return
    quiet.begin(arguments)
    words = [f"--trials={arguments.trials}", f"--epochs={arguments.epochs}"]
    table = sides.alternate(
        {
            name: lambda _, name=name: sides.program("report_cost.py", f"--side={name}", *words)  # type: ignore[misc]
            for name in ("ours", "loggers")
        },
        arguments.rounds,
    )
    sides.show(table, (WALL, CPU))
    print(f"loggers / ours: {CPU} {sides.spread(sides.ratios(table, CPU, 'loggers', 'ours'))}")
    sides.save(arguments, {"sides": table})


class _Spent:
    """Adds up the time in a class's methods that Tune calls on a report."""

    def __init__(self, kind: Any) -> None:
        self.wall = self.cpu = 0.0
        for name in ("on_trial_result", "on_checkpoint"):
            setattr(kind, name, self._timed(getattr(kind, name)))

    def _timed(self, method: Any) -> Any:
        def timed(*words: Any, **more: Any) -> Any:
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return method(*words, **more)
            finally:
                self.wall += time.perf_counter() - wall
                self.cpu += time.thread_time() - cpu

        return timed


def _run_side(arguments: argparse.Namespace) -> None:
    import ray

    from cifar_tune.search.ray_instance import ray_for

    ray.cloudpickle.register_pickle_by_value(scale)
    folder = Path.cwd()
    (folder / scale.FIRST_STEPS).mkdir()
    arguments = argparse.Namespace(**vars(arguments), slots=SLOTS, seconds=0.0, folder=folder)
    plan = load_plan(
        None,
        [
            "search.scheduler=none", f"search.num_samples={arguments.trials}",
            f"train.max_epochs={arguments.epochs}", "finals.seeds=0",
        ],
    )  # fmt: skip
    machine = replace(read_machine(), cpus=SLOTS, gpus=0)
    if arguments.side == "ours":
        from cifar_tune.search.driver import JournalCallback

        spent, run = _Spent(JournalCallback), scale._run_ours
    else:
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "0"
        from ray.tune.logger import LoggerCallback

        spent, run = _Spent(LoggerCallback), scale._run_bare
    with ray_for(plan, machine):
        run(arguments, machine, plan)
    reports = arguments.trials * arguments.epochs
    outcome = {WALL: 1e3 * spent.wall / reports, CPU: 1e3 * spent.cpu / reports}
    Path("outcome.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    main()
