"""Recorded trainings as a table that searches can be simulated on."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.space import parse_space
from cifar_tune.record.optuna_trials import parameters_of
from cifar_tune.record.trials import id_of

Values = dict[str, Any]


class Table:
    """Recorded trainings.

    Attributes:
        curves: accuracy by configuration and epoch, from 0 to 1; 0 once it diverged.
        ends: what each configuration comes to: its best, or 0 if it diverged.
    """

    def __init__(
        self, space: Values, points: list[Values], curves: list[list[float]], schedule: str
    ) -> None:
        self.space, self.schedule, self.curves = space, schedule, curves
        self.parameters = parameters_of(parse_space(space))
        self.ends = [max(curve) if curve[-1] > 0 else 0.0 for curve in curves]
        self.best, self.epochs = max(self.ends), len(curves[0])
        self.points = points
        self._places = [self._place(values) for values in points]

    def _place(self, values: Values) -> list[float]:
        place = []
        for one in self.parameters:
            dimension, value = one.dimension, values[one.dimension.field]
            if dimension.values:
                place.append(dimension.values.index(value) / max(1, len(dimension.values) - 1))
                continue
            low, high = float(dimension.low), float(dimension.high)
            if dimension.kind in ("loguniform", "logint"):
                low, high, value = math.log(low), math.log(high), math.log(value)
            place.append((value - low) / (high - low))
        return place

    def nearest(self, values: Values) -> int:
        """The configuration that is nearest to these values, each range taken as long as others."""
        place = self._place(values)
        return min(range(len(self.ends)), key=lambda index: math.dist(place, self._places[index]))

    def with_priors(self, part: float) -> Values:
        """The space with priors: the values of the configuration that so large a part is worse than
        among those that did not diverge; 0: of the worst."""
        ends = sorted((end, index) for index, end in enumerate(self.ends) if end > 0)
        values = self.points[ends[round(part * (len(ends) - 1))][1]]
        return {field: {**entry, "prior": values[field]} for field, entry in self.space.items()}

    def plan(self, seed: int, trials: int, *more: str) -> Plan:
        """A plan of ours over the table's space."""
        given = [f"search.space={json.dumps(self.space)}", f"optim.schedule={self.schedule}"]
        if self.schedule == "warmup-stable-decay":
            given.append("optim.warmup_fraction=0.1")
        size = [f"train.max_epochs={self.epochs}", f"search.num_samples={trials}", f"seed={seed}"]
        return load_plan(None, [*given, *size, *more])


@dataclass(eq=False)
class Run:
    """One trial: its configuration in the table, and how far it came; with Ray's names for it."""

    number: int
    point: int
    epoch: int = 0
    reports: list[float] = field(default_factory=list)

    @property
    def trial_id(self) -> str:
        return id_of(self.number)

    @property
    def config(self) -> Values:
        return {"trial_id": self.trial_id}

    def __lt__(self, other: Run) -> bool:
        return self.number < other.number
