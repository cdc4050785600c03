"""How well each searcher finds a known optimum in so many trials, against random search.

    python benchmarks/searchers.py [--seeds 20] [--trials 50] [--searchers tpe gp]

Each search goes through the whole program (plan, journal, Ray, trainable); only the objective is a
formula in place of a training. One trial at a time, so that a search is a function of its seed.
Regret is the formula's value at the winner's configuration: 0 at the optimum. The formula is smooth
and without noise, which flatters the Gaussian process.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import quiet
import ray

from cifar_tune.plan import preflight
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.machine import read_machine
from cifar_tune.record.journal import Journal
from cifar_tune.record.recorder import Recorder
from cifar_tune.search.ray_instance import ray_for
from cifar_tune.search.run import run_search
from cifar_tune.search.session import Session
from cifar_tune.vision.config import VisionRun
from cifar_tune.vision.data import SearchData

EPOCHS = 9
SEARCHERS = ("random", "sobol", "grid", "tpe", "gp", "cmaes", "bohb")
SPACE = {
    "optim.lr": {"loguniform": [1e-3, 1.0]},
    "optim.weight_decay": {"loguniform": [1e-6, 1e-2]},
    "optim.momentum": {"uniform": [0.5, 0.99]},
    "optim.label_smoothing": {"uniform": [0.0, 0.3]},
    "data.batch_size": {"choice": [64, 128, 256]},
}
GRID = {  # 54 points
    "optim.lr": {"grid": [0.001, 0.0316, 1.0]},
    "optim.weight_decay": {"grid": [1e-6, 1e-4, 1e-2]},
    "optim.momentum": {"grid": [0.7, 0.9]},
    "optim.label_smoothing": {"grid": [0.15]},
    "data.batch_size": {"grid": [64, 128, 256]},
}


def regret(run: VisionRun) -> float:
    """A bowl in five dimensions whose rate and decay, and rate and batch, depend on each other.

    It is 0 at lr 0.1, weight decay 5e-4, momentum 0.9, label smoothing 0.1, batch 128.
    """
    rate = math.log10(run.optim.lr / 0.1)
    decay = math.log10(run.optim.weight_decay / 5e-4)
    momentum = (run.optim.momentum - 0.9) / 0.2
    smoothing = (run.optim.label_smoothing - 0.1) / 0.2
    batch = math.log2(run.data.batch_size / 128)
    return 0.05 * (
        rate**2 + 0.5 * (rate + decay) ** 2 + 0.2 * decay**2 + momentum**2 + 0.5 * smoothing**2
        + 0.5 * (batch - 0.5 * rate) ** 2
    )  # fmt: skip


def formula(run: VisionRun, data: SearchData, reporter: Any, resume_from: Path | None) -> None:
    """An objective: a learning curve that ends at 1 - regret; the first epochs tell less."""
    del data, resume_from
    for epoch in range(1, run.train.max_epochs + 1):
        part = 1 - 0.5 * math.exp(-epoch / 3)
        accuracy = max(0.0, (1 - regret(run)) * part)
        reporter.report({"epoch": epoch, "val_loss": 1 - accuracy, "val_accuracy": accuracy})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="searches of each (20)")
    parser.add_argument("--trials", type=int, default=50, metavar="N", help="of a search (50)")
    parser.add_argument("--searchers", nargs="+", choices=SEARCHERS, default=SEARCHERS)
    quiet.add_options(parser)
    arguments = parser.parse_args()
    quiet.begin(arguments)
    logging.getLogger("optuna").setLevel(logging.WARNING)
    names = ["random", *(name for name in arguments.searchers if name != "random")]
    machine = replace(read_machine(), cpus=1, gpus=0)
    regrets: dict[str, list[float]] = {name: [] for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with ray_for(load_plan(), machine):
        ray.cloudpickle.register_pickle_by_value(__import__(__name__))
        for seed in range(arguments.seeds):
            for name in names:  # in turn, so that a noisy hour hits all of them
                began = time.monotonic()
                regrets[name].append(_search(name, seed, arguments.trials))
                seconds[name].append(time.monotonic() - began)
            print(f"seed {seed}: " + "  ".join(f"{n} {regrets[n][-1]:.4f}" for n in names))
    _show(regrets, seconds, arguments.trials)
    quiet.save(arguments, {"regret": regrets, "seconds": seconds})


def _search(name: str, seed: int, trials: int) -> float:
    """The regret of one search's winner."""
    scheduler = "hyperband" if name == "bohb" else "none"
    space = GRID if name == "grid" else SPACE
    plan = load_plan(
        None,
        [
            f"search.searcher={name}", f"search.scheduler={scheduler}", f"seed={1000 * seed}",
            f"search.num_samples={trials}", f"search.space={json.dumps(space)}",
            f"train.max_epochs={EPOCHS if name == 'bohb' else 1}",
        ],
    )  # fmt: skip
    forecast = preflight.check(plan, [replace(read_machine(), cpus=1, gpus=0)])
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder)) as journal:
        recorder = Recorder(journal)
        values = forecast.plan.model_dump(mode="json")
        recorder.write("search", version=1, plan=values, data={}, environment={})
        machine = replace(read_machine(), cpus=1, gpus=0)
        with ExitStack() as ray:
            session = Session(
                recorder=recorder,
                data=None,
                machine=machine,
                share=forecast.share,
                objective=formula,
                ray=ray,
            )
            run_search(session, None)
        best = recorder.results.best()
        assert best is not None
        return regret(plan.run(best.values, best.index))


def _show(regrets: dict[str, list[float]], seconds: dict[str, list[float]], trials: int) -> None:
    count = len(regrets["random"])
    print(f"\nregret of the best of {trials} trials, {count} seeds")
    print("searcher    median  quartiles           of random's  ahead of random  seconds a search")
    for name, values in regrets.items():
        low, middle, high = _quartiles(values)
        pairs = list(zip(values, regrets["random"], strict=True))
        ratio = statistics.median(mine / theirs for mine, theirs in pairs)
        ahead = sum(mine < theirs for mine, theirs in pairs)
        print(
            f"{name:9}  {middle:7.2g}  {low:7.2g} to {high:7.2g}  {ratio:11.2g}"
            f"  {ahead:6} of {count:2}        {statistics.median(seconds[name]):6.1f}"
        )


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high


if __name__ == "__main__":
    main()
