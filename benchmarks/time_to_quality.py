"""How many epochs a search takes until its winner is as good as the best, on recorded trainings.

    python benchmarks/time_to_quality.py [--schedule one-cycle] [--half judge]

Simulates whole searches over a table of learning curves (of `record_table.py`, or the smaller one
of `record_curves.py`): slots run at once, each epoch takes one unit of time, reports are decided on
in the order in which they come, and a searcher is given the curve of the configuration that is
nearest to what it suggests. Peers run as their own code: Ray's ASHA and OptunaSearch, Optuna's TPE
with its pruners. At any moment a search's winner is the configuration with the highest accuracy
reported so far, and its quality what that configuration comes to at its end. Over the seeds the
table prints

- the epochs until the quality stays within `--within` points of the table's best (median and
  quartiles; a search that never gets there counts as infinite), and how many searches got there;
- the area: mean points that the winner lacks, over the first `--budget` epochs;
- the regret in points at the end of the search (mean), and the epochs that the search took.

The machine does not matter. `--half judge` takes the second half of the table, which no method was
chosen on.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import statistics
import sys
from pathlib import Path
from typing import Any

from methods import METHODS, Method
from tables import Run, Table

TABLE = Path(__file__).parent / "table_mlp.json"


def simulate(method: Method, table: Table, slots: int) -> list[tuple[int, float]]:
    """After each epoch that was run: all epochs so far, and the winner's quality in points."""
    running: list[tuple[int, int, Run]] = []
    clock, spent, seen, trace = 0, 0, (-1.0, 0), list[tuple[int, float]]()

    def fill() -> None:
        while len(running) < slots and (run := method.next()) is not None:
            heapq.heappush(running, (clock + 1, spent + len(running), run))

    fill()
    while running:
        clock, order, run = heapq.heappop(running)
        run.epoch, spent = run.epoch + 1, spent + 1
        accuracy = table.curves[run.point][run.epoch - 1]
        seen = max(seen, (accuracy, -run.point))
        trace.append((spent, 100 * (table.best - table.ends[-seen[1]])))
        if method.goes_on(run, accuracy) and accuracy > 0 and run.epoch < table.epochs:
            heapq.heappush(running, (clock + 1, order, run))
        else:
            method.left(run, accuracy)
            fill()
    return trace


def time_to(trace: list[tuple[int, float]], within: float) -> float:
    """The epochs after which the regret stays within so many points; infinite if it does not."""
    late = [spent for spent, regret in trace if regret > within]
    reached = (late[-1] if late else 0) + 1
    return reached if reached <= trace[-1][0] else float("inf")


def area(trace: list[tuple[int, float]], budget: int) -> float:
    """The mean regret over the first so many epochs; after its end a search's winner stays."""
    regrets = [regret for _, regret in trace[:budget]]
    return statistics.fmean(regrets + [regrets[-1]] * (budget - len(regrets)))


def judge(name: str, table: Table, slots: int, given: argparse.Namespace) -> dict[str, Any]:
    """One method's figures, a number a seed."""
    row: dict[str, Any] = {"method": name, "slots": slots, "to": [], "area": [], "regret": []}
    row["epochs"] = []
    for seed in range(given.seeds):
        trace = simulate(METHODS[name](table, given.trials, seed), table, slots)
        row["to"].append(time_to(trace, given.within))
        row["area"].append(area(trace, given.budget))
        row["regret"].append(trace[-1][1])
        row["epochs"].append(trace[-1][0])
    return row


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    ordered, count = sorted(row["to"]), len(row["to"])
    low, middle, high = (ordered[int(part * (count - 1) + 0.5)] for part in (0.25, 0.5, 0.75))
    reached = sum(x < float("inf") for x in ordered)
    return (
        f"{row['slots']:5}  {row['method']:<28} {middle:6.0f} ({low:.0f} to {high:.0f})".ljust(62)
        + f"{reached:3}/{count:<3} {statistics.fmean(row['area']):6.2f}"
        f" {statistics.fmean(row['regret']):7.2f} {statistics.fmean(row['epochs']):7.0f}"
    )


def read_table(path: Path, schedule: str, half: str) -> Table:
    """Every second configuration of a recorded table, or all of them."""
    record = json.loads(path.read_text())
    first = {"choose": 0, "judge": 1, "all": 0}[half]
    chosen = (record.get("configurations") or record["curves"])[first :: 1 if half == "all" else 2]
    if "curves" in record:  # of another program: a curve ends where it diverged
        epochs = record["plan"]["train"]["max_epochs"]
        curves = [(one["val_accuracy"][: -1 if one["diverged"] else None]) for one in chosen]
        curves = [curve + [0.0] * (epochs - len(curve)) for curve in curves]
    else:
        curves = [[x / 10_000 for x in one[schedule]] for one in chosen]
    return Table(record["space"], [one["values"] for one in chosen], curves, schedule)


def main() -> None:
    """Simulate, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--schedule", default="one-cycle")
    parser.add_argument("--half", choices=("choose", "judge", "all"), default="judge")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--slots", type=int, nargs="+", default=[2, 16])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--within", type=float, default=0.5, help="points of the best")
    parser.add_argument("--budget", type=int, default=600, help="epochs of the area")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    given = parser.parse_args()
    table = read_table(given.table, given.schedule, given.half)
    near = sum(100 * (table.best - end) <= given.within for end in table.ends)
    print(
        f"{given.schedule}: {len(table.ends)} configurations of {table.epochs} epochs, {near} of"
        f" them within {given.within} points of the best ({table.best:.1%}); {given.trials} trials,"
        f" {given.seeds} seeds"
    )
    print(f"{'slots  method':37}epochs to quality        reached   area  regret  epochs")
    rows = []
    for slots in given.slots:
        for name in given.methods:
            random.seed(0)
            rows.append(judge(name, table, slots, given))
            print(line(rows[-1]), flush=True)
    if given.json:
        given.json.write_text(json.dumps({"command": sys.argv, "rows": rows}))


if __name__ == "__main__":
    main()
