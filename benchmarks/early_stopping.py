"""How near each scheduler comes to ideal successive halving, on recorded learning curves.

    python benchmarks/early_stopping.py [--curves benchmarks/curves_net.json] [--orders 200]

Replays the curves of `record_curves.py` with the scheduler classes of a search: slots take the
configurations in a random order, time goes on by the recorded seconds, and each report is decided
on when it comes. Nothing is trained, so the machine does not matter. Prints medians and quartiles
over the orders of

- epochs that synchronous halving (same rungs, all trials known, floor(n / factor) pass, at least
  one) would run / epochs run: 1 is ideal;
- regret in points: the best validation accuracy of the configurations that were there, trained to
  their end, minus that of the winner as the search saw it, chosen as `results.pick_best` chooses;
- epochs run, of those that all trainings to their end would be;
- wall time until the last slot is free, in recorded seconds.

A set of 16 is drawn from the recorded ones, another for each order. `median` decides slowly, going
through all reports, and gets 20 orders at most.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.rungs import rung_epochs, rungs_below
from cifar_tune.record.ranking import pick_best
from cifar_tune.record.trials import Trial
from cifar_tune.search.schedulers import build_scheduler

CURVES = Path(__file__).parent / "curves_net.json"
OURS = ("asha", "halving", "hyperband", "median", "none")
IDEAL, RAY = "synchronous", "ray's asha"  # the yardstick, and Ray's class without our corrections
SLOW, SLOW_ORDERS = "median", 20


@dataclass(frozen=True)
class Curve:
    """One configuration: its reports by epoch, and the seconds that each epoch took."""

    reports: list[dict[str, Any]]
    seconds: list[float]

    @property
    def best(self) -> float:
        """What it comes to if it is never stopped; nothing that diverges is worth having."""
        if self.reports[-1]["diverged"]:
            return 0.0
        return max(float(report["val_accuracy"]) for report in self.reports)


@dataclass(frozen=True)
class Replay:
    """What one search came to: the epochs that each configuration ran, and the wall time."""

    epochs: dict[int, int]
    wall: float


def read_curves(path: Path) -> list[Curve]:
    """The recorded curves, in the order of the search's own draw."""
    return [_curve(record) for record in json.loads(path.read_text())["curves"]]


def _curve(record: dict[str, Any]) -> Curve:
    pairs = list(zip(record["val_accuracy"], record["val_loss"], strict=True))
    reports = [
        {"epoch": epoch, "val_accuracy": accuracy, "val_loss": loss, "diverged": False}
        for epoch, (accuracy, loss) in enumerate(pairs, 1)
    ]
    reports[-1]["diverged"] = record["diverged"]
    return Curve(reports, record["seconds"])


def plan_with(scheduler: str, curves: Sequence[Curve], grace: int, factor: int) -> Plan:
    """The plan of a search over these curves."""
    epochs = max(len(curve.reports) for curve in curves)
    return load_plan(
        None,
        [
            f"search.scheduler={scheduler}",
            f"train.max_epochs={epochs}",
            f"search.grace_period={grace}",
            f"search.reduction_factor={factor}",
        ],
    )


def replay(
    scheduler: TrialScheduler, curves: Sequence[Curve], order: Sequence[int], slots: int
) -> Replay:
    """Run these configurations, the first in the order first, in so many slots."""
    waiting, epochs, wall = list(reversed(order)), dict[int, int](), 0.0
    trials = {index: _stand_in(index) for index in order}
    running: list[tuple[float, int, int]] = []  # time of its next report, number, configuration

    def expect(index: int) -> None:
        heapq.heappush(running, (wall + curves[index].seconds[epochs[index]], len(done), index))

    def start_next() -> None:
        if waiting:
            index = waiting.pop()
            epochs[index] = 0
            scheduler.on_trial_add(None, trials[index])
            expect(index)

    done: list[int] = []  # one entry a report; its length tells reports of the same time apart
    for _ in range(slots):
        start_next()
    while running:
        wall, _, index = heapq.heappop(running)
        report = curves[index].reports[epochs[index]]
        epochs[index] += 1
        done.append(index)
        decision = scheduler.on_trial_result(None, trials[index], report)
        if decision == TrialScheduler.STOP or epochs[index] == len(curves[index].reports):
            scheduler.on_trial_complete(None, trials[index], report)
            start_next()
        else:
            expect(index)
    return Replay(epochs, wall)


def _stand_in(index: int) -> Any:
    """What schedulers need of Ray's Trial."""
    return SimpleNamespace(trial_id=f"t{index:04}", config={"trial_id": f"t{index:04}"})


def replay_synchronous(
    plan: Plan, curves: Sequence[Curve], order: Sequence[int], slots: int
) -> Replay:
    """Halving that waits at each rung until all are there: nothing is run in vain."""
    end, wall, reached = plan.train.max_epochs, 0.0, 0
    left, epochs = list(order), dict.fromkeys(order, 0)
    for rung in (*rungs_below(rung_epochs(plan), end), end):
        free = [wall] * slots
        for index in left:
            began = heapq.heappop(free)
            heapq.heappush(free, began + sum(curves[index].seconds[reached:rung]))
            epochs[index] = min(rung, len(curves[index].reports))
        wall, reached = max(free), rung
        count = max(1, len(left) // plan.search.reduction_factor)
        alive = [
            index for index in left if not curves[index].reports[epochs[index] - 1]["diverged"]
        ]
        value = {index: curves[index].reports[epochs[index] - 1]["val_accuracy"] for index in alive}
        left = sorted(alive, key=lambda index: -value[index])[:count]
    return Replay(epochs, wall)


def regret(done: Replay, curves: Sequence[Curve], plan: Plan) -> float:
    """Points of accuracy that the winner lacks to the best configuration trained to its end."""
    trials = [_trial(index, curves[index].reports[:ran]) for index, ran in done.epochs.items()]
    winner = pick_best(trials, plan)
    assert winner is not None  # a trial has at least one report
    found = max(metrics["val_accuracy"] for metrics in winner.results.values())
    return 100 * (max(curves[index].best for index in done.epochs) - found)


def _trial(index: int, reports: Sequence[dict[str, Any]]) -> Trial:
    good = [report for report in reports if not report["diverged"]]
    metrics = {
        report["epoch"]: {k: report[k] for k in ("val_accuracy", "val_loss")} for report in good
    }
    trial = Trial(trial_id=f"t{index:04}", index=index, seed=index, values={}, created=0.0)
    trial.results.update(metrics)
    trial.status = "diverged" if len(good) < len(reports) else "completed"
    return trial


Figures = dict[str, list[float]]


def study(
    name: str, curves: Sequence[Curve], size: int, slots: int, arguments: argparse.Namespace
) -> Figures:
    """Ratio, share of all epochs, regret and wall time of a scheduler, one number an order."""
    scheduler = name if name in OURS else "asha"
    plan = plan_with(scheduler, curves, arguments.grace_period, arguments.reduction_factor)
    halving = plan_with("asha", curves, arguments.grace_period, arguments.reduction_factor)
    figures: Figures = {"ratio": [], "share": [], "regret": [], "wall": []}
    for seed in range(min(arguments.orders, SLOW_ORDERS) if name == SLOW else arguments.orders):
        order = random.Random(f"order:{seed}").sample(range(len(curves)), size)
        ideal = replay_synchronous(halving, curves, order, slots)
        done = ideal if name == IDEAL else replay(_make(name, plan), curves, order, slots)
        figures["ratio"].append(sum(ideal.epochs.values()) / sum(done.epochs.values()))
        figures["share"].append(sum(done.epochs.values()) / (size * plan.train.max_epochs))
        figures["regret"].append(regret(done, curves, plan))
        figures["wall"].append(done.wall)
    return figures


def _make(name: str, plan: Plan) -> TrialScheduler:
    if name != RAY:
        return build_scheduler(plan)
    return ASHAScheduler(
        time_attr="epoch",
        metric="val_accuracy",
        mode="max",
        max_t=plan.train.max_epochs,
        grace_period=plan.search.grace_period,
        reduction_factor=plan.search.reduction_factor,
    )


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def main() -> None:
    """Replay, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curves", type=Path, default=CURVES)
    parser.add_argument("--orders", type=int, default=200, help="random orders (at least 2)")
    parser.add_argument("--sizes", type=int, nargs="+", help="configurations (all, and 16)")
    parser.add_argument("--slots", type=int, nargs="+", default=[2, 16])
    parser.add_argument("--grace-period", type=int, default=1)
    parser.add_argument("--reduction-factor", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    arguments = parser.parse_args()
    curves = read_curves(arguments.curves)
    diverged = sum(curve.reports[-1]["diverged"] for curve in curves)
    print(f"{len(curves)} curves, {diverged} diverged; rungs from {arguments.grace_period}")
    print(
        "trials slots  scheduler    orders ideal / run          epochs  regret, points         mean"
        "  wall"
    )
    rows: list[dict[str, Any]] = []
    for size in arguments.sizes or sorted({len(curves), min(16, len(curves))}, reverse=True):
        for slots in arguments.slots:
            for name in (IDEAL, RAY, *OURS):
                figures = study(name, curves, size, slots, arguments)
                rows.append({"trials": size, "slots": slots, "scheduler": name, **figures})
                print(line(rows[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows))


def line(row: dict[str, Any]) -> str:
    """A row of the table: medians, with quartiles in brackets."""
    low, ratio, high = quartiles(row["ratio"])
    cells = f"{ratio:.2f} ({low:.2f} to {high:.2f})"
    low, lost, high = quartiles(row["regret"])
    regrets = f"{lost:.2f} ({low:.2f} to {high:.2f})"
    wall, mean = statistics.median(row["wall"]), statistics.fmean(row["regret"])
    orders = len(row["wall"])
    return (
        f"{row['trials']:6} {row['slots']:5}  {row['scheduler']:<12} {orders:6} {cells:20}"
        f" {statistics.median(row['share']):6.1%} {regrets:22} {mean:4.2f} {wall:5.0f} s"
    )


if __name__ == "__main__":
    main()
