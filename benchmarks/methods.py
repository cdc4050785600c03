"""The searches that `time_to_quality.py` compares: ours, the peers as their own code, baselines."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import optuna
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from sources import OurStudy, RayOptuna, Shuffled, Source
from tables import Run, Table, Values

from cifar_tune.plan.config import Plan
from cifar_tune.plan.rungs import rung_epochs, rungs_below
from cifar_tune.search.schedulers import build_scheduler

FACTOR = 3


class Method(Protocol):
    """A search, asked when a slot is free, and told of every epoch."""

    def next(self) -> Run | None: ...

    def goes_on(self, run: Run, accuracy: float) -> bool: ...

    def left(self, run: Run, accuracy: float) -> None: ...


class Scheduled:
    """Trials that run until a scheduler with Ray's interface stops them."""

    def __init__(
        self, table: Table, trials: int, source: Source, scheduler: TrialScheduler | None
    ) -> None:
        self._table, self._trials, self._source = table, trials, source
        self._scheduler, self._created = scheduler, 0

    def next(self) -> Run | None:
        if self._created >= self._trials:
            return None
        run = Run(self._created, self._source.suggest(self._created))
        self._created += 1
        if self._scheduler is not None:
            self._scheduler.on_trial_add(None, run)
        return run

    def goes_on(self, run: Run, accuracy: float) -> bool:
        run.reports.append(accuracy)
        self._source.told(run, accuracy)
        if self._scheduler is None:
            return True
        decision = self._scheduler.on_trial_result(None, run, _result(run, accuracy))
        return bool(decision != TrialScheduler.STOP)

    def left(self, run: Run, accuracy: float) -> None:
        if self._scheduler is not None:
            self._scheduler.on_trial_complete(None, run, _result(run, accuracy))
        self._source.ended(run, completed=run.epoch == self._table.epochs)


def _result(run: Run, accuracy: float) -> Values:
    return {"epoch": run.epoch, "val_accuracy": accuracy, "diverged": accuracy == 0}


class Promoted:
    """Trials that pause at each rung, and go on when they are among the best third of it.

    Li et al. 2020, algorithm 2. `patient`: none goes on before all have come to the first rung.
    When nothing else is left, the best that waits at the last rung goes on, so that one ends.
    """

    def __init__(
        self, table: Table, trials: int, source: Source, rungs: tuple[int, ...], *, patient: bool
    ) -> None:
        self._table, self._trials, self._source, self._patient = table, trials, source, patient
        self._rungs: dict[int, list[Run]] = {rung: [] for rung in rungs}  # who came so far
        self._waiting: set[Run] = set()
        self._created = self._live = 0
        self._completed = False

    def next(self) -> Run | None:
        if not self._patient or self._created == self._trials:
            for rung, came in reversed(self._rungs.items()):
                if self._patient and self._live and rung == min(self._rungs):
                    continue
                best = sorted(came, key=lambda run: -run.reports[rung - 1])[: len(came) // FACTOR]
                for run in best:
                    if run in self._waiting and run.epoch == rung:
                        return self._start(run)
        if self._created < self._trials:
            self._created += 1
            number = self._created - 1
            return self._start(Run(number, self._source.suggest(number)))
        if self._waiting and not self._live and not self._completed:
            return self._start(max(self._waiting, key=lambda run: (run.epoch, run.reports[-1])))
        return None

    def _start(self, run: Run) -> Run:
        if run in self._waiting:
            self._source.goes_on(run)
        self._waiting.discard(run)
        self._live += 1
        return run

    def goes_on(self, run: Run, accuracy: float) -> bool:
        run.reports.append(accuracy)
        self._source.told(run, accuracy)
        return run.epoch not in self._rungs

    def left(self, run: Run, accuracy: float) -> None:
        self._live -= 1
        if run.epoch in self._rungs:
            self._rungs[run.epoch].append(run)
            if accuracy:
                self._waiting.add(run)
        self._completed |= run.epoch == self._table.epochs
        self._source.ended(run, completed=run.epoch == self._table.epochs)


class OneEpoch:
    """The baseline that shames the field: one epoch of everything, then the best to their ends."""

    def __init__(self, table: Table, trials: int, seed: int, keep: int) -> None:
        source = Shuffled(table, seed)
        self._new = [Run(number, source.suggest(number)) for number in range(trials)]
        self._tried: list[Run] = []
        self._left, self._keep = trials, keep

    def next(self) -> Run | None:
        if self._new:
            return self._new.pop(0)
        if self._left or not self._keep:
            return None
        self._keep -= 1
        best = max(self._tried, key=lambda run: run.reports[0])
        self._tried.remove(best)
        return best

    def goes_on(self, run: Run, accuracy: float) -> bool:
        run.reports.append(accuracy)
        return run.epoch > 1

    def left(self, run: Run, accuracy: float) -> None:
        if run.epoch == 1:
            self._tried.append(run)
            self._left -= 1


class Pruned:
    """Optuna alone: its TPE, and a pruner that is asked after every epoch."""

    def __init__(self, table: Table, trials: int, seed: int, pruner: Any) -> None:
        self._table, self._left = table, trials
        sampler = optuna.samplers.TPESampler(seed=seed)
        self._study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
        self._trials: dict[Run, optuna.Trial] = {}

    def next(self) -> Run | None:
        if not self._left:
            return None
        self._left -= 1
        trial = self._study.ask({one.name: one.distribution for one in self._table.parameters})
        run = Run(trial.number, self._table.nearest(trial.params))
        self._trials[run] = trial
        return run

    def goes_on(self, run: Run, accuracy: float) -> bool:
        run.reports.append(accuracy)
        self._trials[run].report(accuracy, run.epoch)
        return not self._trials[run].should_prune()

    def left(self, run: Run, accuracy: float) -> None:
        trial = self._trials.pop(run)
        if run.epoch == self._table.epochs and accuracy:
            self._study.tell(trial, max(run.reports))
        else:
            self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)


def _asha(table: Table) -> ASHAScheduler:
    """Ray's own class as its users have it, from epoch 1 on."""
    return ASHAScheduler(
        time_attr="epoch", metric="val_accuracy", mode="max", max_t=table.epochs, grace_period=1,
        reduction_factor=FACTOR,
    )  # fmt: skip


def _rungs(plan: Plan) -> tuple[int, ...]:
    return rungs_below(rung_epochs(plan), plan.train.max_epochs)


Maker = Callable[[Table, int, int], Method]


def _ours(searcher: str, scheduler: str, *more: str) -> Maker:
    def make(table: Table, trials: int, seed: int) -> Method:
        names = [f"search.searcher={searcher}", f"search.scheduler={scheduler}"]
        plan = table.plan(seed, trials, *names, *more)
        source = Shuffled(table, seed) if searcher == "random" else OurStudy(table, plan)
        return Scheduled(table, trials, source, build_scheduler(plan))

    return make


def _priors(part: float, confidence: str = "medium") -> Maker:
    def make(table: Table, trials: int, seed: int) -> Method:
        space = {f: {**e, "confidence": confidence} for f, e in table.with_priors(part).items()}
        given = f"search.space={json.dumps(space)}"
        return _ours("priorband", "asha", given)(table, trials, seed)

    return make


def _promoted(searcher: str, *more: str, patient: bool = False) -> Maker:
    def make(table: Table, trials: int, seed: int) -> Method:
        plan = table.plan(seed, trials, f"search.searcher={searcher}", *more)
        source = Shuffled(table, seed) if searcher == "random" else OurStudy(table, plan)
        return Promoted(table, trials, source, _rungs(plan), patient=patient)

    return make


EARLY = "search.grace_period=1"
METHODS: Mapping[str, Maker] = {
    "random": lambda table, n, seed: Scheduled(table, n, Shuffled(table, seed), None),
    "one epoch, best 3 to the end": lambda table, n, seed: OneEpoch(table, n, seed, keep=3),
    "ray asha, random": lambda table, n, seed: Scheduled(
        table, n, Shuffled(table, seed), _asha(table)
    ),
    "ray asha, OptunaSearch": lambda table, n, seed: Scheduled(
        table, n, RayOptuna(table, seed), _asha(table)
    ),
    "optuna tpe, hyperband": lambda table, n, seed: Pruned(
        table, n, seed, optuna.pruners.HyperbandPruner(1, table.epochs, FACTOR)
    ),
    "optuna tpe, percentile": lambda table, n, seed: Pruned(
        table, n, seed, optuna.pruners.PercentilePruner(25.0)
    ),
    "random, asha from 1": _ours("random", "asha", EARLY),
    "random, asha": _ours("random", "asha"),
    "random, halving": _ours("random", "halving"),
    "random, hyperband": _ours("random", "hyperband"),
    "tpe, asha": _ours("tpe", "asha"),
    "tpe, halving": _ours("tpe", "halving"),
    "bohb, hyperband": _ours("bohb", "hyperband"),
    "priorband, asha, good priors": _priors(0.9),
    "priorband, asha, middling priors": _priors(0.5),
    "priorband, asha, wrong priors": _priors(0.0),
    "priorband, asha, wrong and sure": _priors(0.0, "high"),
    "random, promoted from 1": _promoted("random", EARLY),
    "random, promoted": _promoted("random"),
    "random, patient": _promoted("random", patient=True),
    "random, patient from 1": _promoted("random", EARLY, patient=True),
    "tpe, promoted": _promoted("tpe"),
}
optuna.logging.set_verbosity(optuna.logging.WARNING)
logging.getLogger("ray.tune").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=FutureWarning)
