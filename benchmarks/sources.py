"""Where simulated trials come from: random draws, Ray's OptunaSearch, our own searchers."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from ray.tune.search.optuna import OptunaSearch
from tables import Run, Table

from cifar_tune.plan.config import Plan
from cifar_tune.record.results import Results
from cifar_tune.record.trials import id_of
from cifar_tune.search.suggester import build_suggester


class Source(Protocol):
    """A searcher: where the configurations of new trials come from."""

    def suggest(self, number: int) -> int: ...

    def told(self, run: Run, accuracy: float) -> None: ...

    def ended(self, run: Run, *, completed: bool) -> None: ...

    def goes_on(self, run: Run) -> None: ...


class Shuffled:
    """Random search: the table's own configurations in a random order."""

    def __init__(self, table: Table, seed: int) -> None:
        count = len(table.ends)
        self._order = random.Random(f"order:{seed}").sample(range(count), count)

    def suggest(self, number: int) -> int:
        return self._order[number % len(self._order)]

    def told(self, run: Run, accuracy: float) -> None:
        pass

    def ended(self, run: Run, *, completed: bool) -> None:
        pass

    def goes_on(self, run: Run) -> None:
        """It had ended, for all that was known."""


class RayOptuna:
    """Ray's OptunaSearch, as Ray's controller would ask and tell it."""

    def __init__(self, table: Table, seed: int) -> None:
        space = {one.name: one.distribution for one in table.parameters}
        self._table = table
        self._search = OptunaSearch(space=space, metric="val_accuracy", mode="max", seed=seed)

    def suggest(self, number: int) -> int:
        return self._table.nearest(self._search.suggest(id_of(number)))

    def told(self, run: Run, accuracy: float) -> None:
        result = {"val_accuracy": accuracy, "training_iteration": run.epoch}
        self._search.on_trial_result(run.trial_id, result)

    def ended(self, run: Run, *, completed: bool) -> None:
        result = {"val_accuracy": run.reports[-1], "training_iteration": run.epoch}
        self._search.on_trial_complete(run.trial_id, result)

    def goes_on(self, run: Run) -> None:
        raise NotImplementedError("Ray's schedulers of promotion are synchronous")


class OurStudy:
    """Our tpe, bohb or priorband, told the events that the journal of such a search would have."""

    def __init__(self, table: Table, plan: Plan) -> None:
        self._table, self._plan = table, plan
        with tempfile.TemporaryDirectory() as folder:
            self._results = Results(folder=Path(folder), plan=plan)
            self._study = build_suggester(plan, Path(folder))
        nobody: Any = SimpleNamespace(observe=lambda *_: None)
        vars(self._study)["_file"] = nobody  # the study file is for people to look at

    def _write(self, event: str, **values: Any) -> None:
        told = {"event": event, "seq": self._results.events + 1, "time": 0.0, **values}
        self._results.apply(told)
        self._study.observe(told, self._results)

    def suggest(self, number: int) -> int:
        values = self._study.suggest(number, {})
        name = {"trial_id": id_of(number)}
        self._write("trial_created", **name, index=number, seed=number, values=values)
        self._write("trial_started", **name, start=1)
        return self._table.nearest(values or {})

    def told(self, run: Run, accuracy: float) -> None:
        metrics = {"epoch": run.epoch, "val_accuracy": accuracy, "val_loss": 1 - accuracy}
        metrics |= {"first_step_at": 0.0, "reported_at": 0.0}
        told = {"checkpoint": None, "done": False, "diverged": accuracy == 0}
        self._write("result", trial_id=run.trial_id, metrics=metrics, **told)

    def ended(self, run: Run, *, completed: bool) -> None:
        status = "completed" if completed else "stopped" if run.reports[-1] else "diverged"
        self._write("trial_ended", trial_id=run.trial_id, status=status, reason="")

    def goes_on(self, run: Run) -> None:
        self._write("trial_retried", trial_id=run.trial_id, kind="lost node", reason="")
        self._write("trial_started", trial_id=run.trial_id, start=1)
