"""The configurations of a search that learns nothing: a function of the plan alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cifar_tune.plan.config import Plan
from cifar_tune.plan.points import draw_random, fill, grid_of, grid_points
from cifar_tune.plan.preflight import number_of_trials
from cifar_tune.plan.space import Dimension, Space, Value
from cifar_tune.record.journal import Event
from cifar_tune.record.results import Results


class Configurations(Sequence[dict[str, Value]]):
    """All configurations of a grid, random or Sobol search, in order; also their `Suggester`.

    They are made when asked for: of ten million samples most are never reached.
    """

    def __init__(self, plan: Plan) -> None:
        self._seed = plan.seed
        self._searcher = plan.search.searcher
        self._space = plan.search.parsed_space
        self._count = number_of_trials(plan)
        self._grid = grid_points(self._space) if self._searcher == "grid" else []

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        """Configuration `index`, from 0, of a search without known good points."""
        configuration = self.suggest(index, {}) if index >= 0 else None
        if configuration is None:
            raise IndexError(index)
        return configuration

    def suggest(self, index: int, fixed: Mapping[str, Value]) -> dict[str, Value] | None:
        """Configuration `index` with the fixed values in it, or none after the last.

        What is fixed in one trial leaves the others as they were. A grid has its points in their
        order; nothing is fixed there.
        """
        if index >= self._count:
            return None
        if self._searcher == "grid":
            return self._grid[index]
        if self._searcher == "sobol":
            return draw_sobol(self._space, self._seed, index, fixed)
        return draw_random(self._space, self._seed, index, fixed)

    def observe(self, event: Event, results: Results) -> None:
        """Nothing is learnt from what happens."""


def draw_sobol(space: Space, seed: int, index: int, fixed: Mapping[str, Value]) -> dict[str, Value]:
    """Configuration `index` (from 0) of a search by scrambled Sobol points.

    Each dimension but those of the grid has a coordinate, also where a condition leaves it out.
    Every cell of the grid has a sequence of its own: in one sequence for all, a cell would get
    every n-th point, and these lie on one side (of 64 points every second one has a mean 0.25 off
    the middle in some coordinate, a random draw 0.08).
    """
    free = [dimension.field for dimension in space if dimension.kind != "grid"]
    turn, cell = divmod(index, math.prod(len(dimension.values) for dimension in grid_of(space)))
    coordinates = dict(zip(free, _sobol_point(len(free), (seed, cell), turn), strict=True))

    def draw(dimension: Dimension) -> Value:
        return dimension.quantile(coordinates[dimension.field])

    return fill(space, index, fixed, draw)


def _sobol_point(dimensions: int, seed: tuple[int, int], index: int) -> list[float]:
    """Point `index` of a scrambled Sobol sequence (Owen 1998; Joe and Kuo's directions)."""
    if dimensions == 0:
        return []
    # Imported here: it takes seconds, and the other ways to search do without it.
    import numpy as np
    from scipy.stats import qmc

    sequence = qmc.Sobol(dimensions, rng=np.random.default_rng(seed))
    if index > 0:  # to go forward by nothing is an OverflowError
        sequence.fast_forward(index)
    return [float(coordinate) for coordinate in sequence.random(1)[0]]
