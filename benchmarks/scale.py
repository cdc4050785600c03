"""What the driver costs when there are many short trials, against bare Ray Tune and the ideal.

    python benchmarks/scale.py [--trials 1000] [--slots 16] [--seconds 1.0] [--epochs 1]
    python benchmarks/scale.py --trials 300 --slots 2 --seconds 0 --epochs 30 --no-kill --loggers

Trials sleep, put through the trainable's own seam, so that more of them run than there are cores.
Ours is a search with all that the program has beside it: journal, tables, TensorBoard, lines of
progress, the page. The bare one is a Tune function with the same reuse of processes, the same
settings of Ray, and no loggers. With `--loggers` there is a third with Ray's default loggers, and
what a report costs the driver is counted over the bare one. Each side has a driver of its own, in
turn. To start so many processes takes a small machine many seconds, so the first wait until every
slot has its process; the wall runs from there to the last report.
Then a search is killed with SIGKILL at half and goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import quiet

from cifar_tune.plan import preflight
from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.machine import Machine, read_machine
from cifar_tune.record.journal import FILE_NAME, Journal, read_journal
from cifar_tune.record.recorder import Recorder

OUTCOME = "outcome.json"
FIRST_STEPS = "first-steps"
SAMPLE_SECONDS = 0.1  # a search of many reports may be over in seconds


def main() -> None:
    arguments = _arguments()
    if arguments.side is not None:
        _run_side(arguments)
        return
    quiet.begin(arguments)
    sides = ("bare", "ours", "loggers") if arguments.loggers else ("bare", "ours")
    table: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.repeats):
            # In turn, so that a noisy hour hits both, and each as often first.
            for side in reversed(sides) if number % 2 else sides:
                table[side].append(_side(side, Path(folder) / f"{side}-{number}", arguments))
        _show(table, arguments)
        resumed = None if arguments.no_kill else _kill_and_resume(Path(folder) / "kill", arguments)
    quiet.save(arguments, {**table, "resumed": resumed})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000, metavar="N", help="of a search (1000)")
    parser.add_argument("--slots", type=int, default=16, metavar="N", help="declared (16)")
    parser.add_argument("--seconds", type=float, default=1.0, help="that a trial sleeps (1)")
    parser.add_argument("--epochs", type=int, default=1, help="reports of a trial (1)")
    parser.add_argument("--repeats", type=int, default=3, help="searches of each side (3)")
    parser.add_argument("--no-kill", action="store_true", help="leave out kill and resume")
    parser.add_argument("--loggers", action="store_true", help="Ray's default loggers as well")
    parser.add_argument("--side", choices=("bare", "ours", "loggers"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    quiet.add_options(parser)
    return parser.parse_args()


def _command(side: str, folder: Path, arguments: argparse.Namespace) -> list[str]:
    names = ("trials", "slots", "seconds", "epochs")
    words = [f"--{name}={getattr(arguments, name)}" for name in names]
    return [sys.executable, __file__, f"--side={side}", f"--folder={folder}", *words]


def _side(side: str, folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    (folder / FIRST_STEPS).mkdir(parents=True)
    subprocess.run(_command(side, folder, arguments), check=True)
    outcome: dict[str, float] = json.loads((folder / OUTCOME).read_text())
    return outcome


# What follows runs in a driver of its own.


def _run_side(arguments: argparse.Namespace) -> None:
    """One search; its figures go to a file."""
    import ray

    from cifar_tune.search.ray_instance import ray_for

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    machine = replace(read_machine(), cpus=arguments.slots, gpus=0)
    # On few cores so many processes import for minutes, and Ray would start them again and again.
    os.environ.update(RAY_worker_register_timeout_seconds="600")
    if arguments.side == "loggers":
        os.environ.update(TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="0")
    plan = load_plan(
        None,
        [
            "search.searcher=random", "search.scheduler=none",
            f"search.num_samples={arguments.trials}",
            f"train.max_epochs={arguments.epochs}", "finals.seeds=0",
        ],
    )  # fmt: skip
    with ray_for(plan, machine), _Usage() as usage:
        began = time.monotonic()
        run = _run_ours if arguments.side == "ours" else _run_bare
        spans, more = run(arguments, machine, plan)
        more["whole_seconds"] = time.monotonic() - began
    processes = sum(1 for _ in (arguments.folder / FIRST_STEPS).iterdir())
    outcome = {
        "trials": len(spans),
        "processes": processes,
        "wall_seconds": max(end for _, end in spans) - min(began for began, _ in spans),
        **usage.between(spans),
        **more,
    }
    (arguments.folder / OUTCOME).write_text(json.dumps(outcome))


def _run_ours(
    arguments: argparse.Namespace, machine: Machine, plan: Plan
) -> tuple[list[tuple[float, float]], dict[str, float]]:
    from cifar_tune.record.tables import TableWriter
    from cifar_tune.report.lines import ProgressLines
    from cifar_tune.report.tensorboard import TensorBoardFiles
    from cifar_tune.report.writer import ReportWriter
    from cifar_tune.search.run import run_search
    from cifar_tune.search.session import Session

    folder, forecast = arguments.folder, preflight.check(plan, [machine])
    began = time.monotonic()
    with Journal(folder) as journal, (folder / "lines").open("a") as lines:
        recorder = Recorder(journal)
        rebuilt = time.monotonic() - began
        if not recorder.results.events:
            values = forecast.plan.model_dump(mode="json")
            recorder.write("search", version=1, plan=values, data={}, environment={})
        page = ReportWriter()
        recorder.observers += [
            ProgressLines(lambda line: print(line, file=lines, flush=True)),
            TensorBoardFiles(folder / "tensorboard"), TableWriter(), page,
        ]  # fmt: skip
        objective = _Sleeping(arguments.seconds, _at_once(arguments), folder / FIRST_STEPS)
        with ExitStack() as ray:
            session = Session(
                recorder=recorder,
                data=None,
                machine=machine,
                share=forecast.share,
                objective=objective,
                ray=ray,
            )
            run_search(session, None)
        page.close()
        trials = recorder.results.trials.values()
        spans = [(min(trial.spans), max(trial.spans.values())) for trial in trials]
        size = journal.size_bytes
    return spans, {"journal_bytes": size, "rebuild_seconds": rebuilt}


class _Sleeping:
    """An objective that sleeps, a part of its time in each epoch."""

    def __init__(self, seconds: float, slots: int, first_steps: Path) -> None:
        self._seconds = seconds
        self._slots = slots
        self._first_steps = first_steps

    def __call__(self, run: Any, data: Any, reporter: Any, resume_from: Any) -> None:
        reporter.first_step_at = _begin(self._first_steps, self._slots)
        for epoch in range(1, run.train.max_epochs + 1):
            time.sleep(self._seconds / run.train.max_epochs)
            reporter.report(_metrics(epoch, run.optim.lr))


def _at_once(arguments: argparse.Namespace) -> int:
    """How many trials run at the same time, at most."""
    return int(min(arguments.slots, arguments.trials))


def _metrics(epoch: int, lr: float) -> dict[str, float]:
    return {
        "epoch": epoch, "val_loss": lr, "val_accuracy": 1 / (1 + lr), "train_loss": 1.0,
        "best_val_accuracy": 0.5, "lr": lr, "images_per_second": 1.0,
    }  # fmt: skip


def _begin(first_steps: Path, slots: int) -> float:
    """Now; the first trial of each process waits until all slots have a process.

    Without that Tune hands new trials to the few processes that are there, ends those that it has
    just begun to start, and on few cores the slots never fill.
    """
    file = first_steps / str(os.getpid())
    if not file.exists():
        file.touch()
        while sum(1 for _ in first_steps.iterdir()) < slots:
            time.sleep(0.05)
    return time.time()


def _run_bare(
    arguments: argparse.Namespace, machine: Machine, plan: Plan
) -> tuple[list[tuple[float, float]], dict[str, float]]:
    from ray import tune

    trainable = tune.with_parameters(
        _bare_trial,
        seconds=arguments.seconds,
        epochs=arguments.epochs,
        slots=_at_once(arguments),
        first_steps=arguments.folder / FIRST_STEPS,
    )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1, "gpu": 0}),
        param_space={
            "lr": tune.loguniform(1e-3, 1.0), "weight_decay": tune.loguniform(1e-6, 1e-2),
            "batch_size": tune.choice([64, 128, 256]),
        },
        tune_config=tune.TuneConfig(
            num_samples=arguments.trials, max_concurrent_trials=arguments.slots, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            name="bare", storage_path=str(arguments.folder.absolute()), verbose=0
        ),
    )  # fmt: skip
    metrics = [result.metrics for result in tuner.fit()]
    return [(each["first_step_at"], each["reported_at"]) for each in metrics], {}


def _bare_trial(
    config: dict[str, Any], seconds: float, epochs: int, slots: int, first_steps: Path
) -> None:
    from ray import tune

    began = _begin(first_steps, slots)
    for epoch in range(1, epochs + 1):
        time.sleep(seconds / epochs)
        clock = {"first_step_at": began, "reported_at": time.time()}
        tune.report({**_metrics(epoch, config["lr"]), **clock})


class _Usage:
    """Samples this process's memory and CPU time in a thread."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, float, float]] = []  # Unix seconds, bytes, CPU seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Usage:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            spent = resource.getrusage(resource.RUSAGE_SELF)
            cpu = spent.ru_utime + spent.ru_stime
            self._samples.append((time.time(), pages * resource.getpagesize(), cpu))

    def between(self, spans: Sequence[tuple[float, float]]) -> dict[str, float]:
        """CPU time a trial, and the memory's slope over trials ended, from a fifth of them on."""
        ends = sorted(end for _, end in spans)
        late = [s for s in self._samples if ends[len(ends) // 5] <= s[0] <= ends[-1]]
        counts = [float(sum(end <= at for end in ends)) for at, _, _ in late]
        if len(set(counts)) < 2:
            raise SystemExit("the search was over too soon for its figures; give more --trials")
        memory = [held for _, held, _ in late]
        return {
            "driver_bytes": memory[-1],
            "driver_bytes_a_trial": statistics.linear_regression(counts, memory).slope,
            "driver_cpu_ms_a_trial": 1e3 * (late[-1][2] - late[0][2]) / (counts[-1] - counts[0]),
        }


# Kill and resume, from the outside.


def _kill_and_resume(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    (folder / FIRST_STEPS).mkdir(parents=True)
    command = _command("ours", folder, arguments)
    with subprocess.Popen(command) as process:
        while _reports(folder) < arguments.trials * arguments.epochs // 2:
            if process.poll() is not None:
                raise SystemExit("the search ended before half of its reports")
            time.sleep(0.05)
        process.kill()
    before = read_journal(folder)
    began = time.time()
    subprocess.run(command, check=True)
    return _show_resumed(folder, len(before.events), len(before.of("result")), began)


def _reports(folder: Path) -> int:
    path = folder / FILE_NAME
    return path.read_bytes().count(b'"event":"result"') if path.exists() else 0


def _show_resumed(folder: Path, events: int, reports: int, began: float) -> dict[str, float]:
    outcome = json.loads((folder / OUTCOME).read_text())
    new = read_journal(folder).events[events:]
    steps = [e["metrics"]["first_step_at"] for e in new if e["event"] == "result"]
    started = next(event["time"] for event in new if event["event"] == "start")
    figures = {
        "events": events,
        "reports": reports,
        "rebuild_seconds": outcome["rebuild_seconds"],
        "to_start_seconds": started - began,
        "to_first_step_seconds": min(steps) - began,
        "trials": outcome["trials"],
    }
    print(f"\nkilled with SIGKILL after {reports} reports ({events} events), then started again")
    print(f"journal read and state rebuilt       {figures['rebuild_seconds']:8.3f} s")
    print(f"process start to search's start      {figures['to_start_seconds']:8.3f} s")
    print(f"process start to first training step {figures['to_first_step_seconds']:8.3f} s")
    print(f"trials at the end                    {figures['trials']:8}")
    return figures


def _show(table: dict[str, list[dict[str, float]]], arguments: argparse.Namespace) -> None:
    ideal = arguments.trials * arguments.seconds / arguments.slots
    print(
        f"\n{arguments.trials} trials of {arguments.seconds:g} s and {arguments.epochs} reports on"
        f" {arguments.slots} slots; ideal {ideal:.1f} s, medians of {arguments.repeats}"
    )
    print("side     wall s   of ideal   processes   CPU ms a trial   bytes a trial   RSS MB")
    middle = {
        side: {key: statistics.median(one[key] for one in outcomes) for key in outcomes[0]}
        for side, outcomes in table.items()
    }
    for side, row in middle.items():
        share = row["wall_seconds"] / ideal if ideal else float("nan")
        print(
            f"{side:7}{row['wall_seconds']:8.2f}   {share:8.3f}"
            f"   {row['processes']:9.0f}   {row['driver_cpu_ms_a_trial']:14.1f}"
            f"   {row['driver_bytes_a_trial']:13.0f}   {row['driver_bytes'] / 1e6:6.0f}"
        )
    pairs = zip(table["ours"], table["bare"], strict=True)
    ratios = [ours["wall_seconds"] / bare["wall_seconds"] for ours, bare in pairs]
    print(f"wall of ours / bare: {', '.join(f'{ratio:.3f}' for ratio in ratios)}")
    for side in ("ours", "loggers") if arguments.loggers else ():
        _show_reports(side, table, arguments)
    size = middle["ours"]["journal_bytes"]
    print(f"journal {size / 1e3:.0f} kB, {size / arguments.trials:.0f} bytes a trial")


def _show_reports(
    side: str, table: dict[str, list[dict[str, float]]], arguments: argparse.Namespace
) -> None:
    """What a report costs over the bare side's, round by round: CPU time, and all of the wall."""
    pairs = list(zip(table[side], table["bare"], strict=True))
    reports = arguments.epochs * arguments.trials
    cpu = [
        (one["driver_cpu_ms_a_trial"] - bare["driver_cpu_ms_a_trial"]) / arguments.epochs
        for one, bare in pairs
    ]
    wall = [1e3 * (one["wall_seconds"] - bare["wall_seconds"]) / reports for one, bare in pairs]
    print(
        f"a report of {side} over bare, ms: CPU {', '.join(f'{ms:.2f}' for ms in cpu)};"
        f" wall {', '.join(f'{ms:.2f}' for ms in wall)}"
    )


if __name__ == "__main__":
    main()
