"""Asks a sampler of Optuna for configurations that were not there before, on a study in memory."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import optuna
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from cifar_tune.plan.config import Plan
from cifar_tune.plan.points import MAX_GRID_POINTS, count_points, grid_points
from cifar_tune.plan.space import Space, Value
from cifar_tune.record.optuna_trials import (
    Parameter,
    directions_of,
    optuna_trial,
    parameters_of,
)
from cifar_tune.record.trials import Trial

ATTEMPTS = 4  # to suggest what was not there before; then it is drawn among the points left


@dataclass(frozen=True)
class End:
    """How a trial ended, for the sampler; `values` by objective, none where it has none."""

    status: str
    epochs: int
    state: TrialState
    values: tuple[float, ...] | None


class Sampling:
    """A study in memory, from which a sampler learns and suggests."""

    def __init__(self, plan: Plan, make_sampler: Callable[[int], BaseSampler]) -> None:
        self._search = plan.search
        self._seed, self._epochs = plan.seed, plan.train.max_epochs
        self._space = plan.search.parsed_space
        self._parameters = parameters_of(self._space)
        self._make_sampler = make_sampler
        self._study = _Study(plan, self._sampler(0, 0))
        self._running: dict[str, optuna.Trial] = {}
        self._asked: tuple[int, optuna.Trial] | None = None  # not created yet: index and trial
        self._seen: set[_Key] = set()
        self.steps = 0  # of the search that were taken over

    def _sampler(self, index: int, attempt: int) -> BaseSampler:
        seed = random.Random(f"{self._seed}:{index}:{attempt}").getrandbits(32)
        return self._make_sampler(seed)

    def know(self, trial: Trial, end: End | None) -> None:
        """Add a trial of an earlier search."""
        if end is not None:
            steps = self._steps_of(trial)
            added = optuna_trial(self._parameters, trial.values, end.state, end.values, steps, {})
            self._study.add_trial(added)

    def _steps_of(self, trial: Trial) -> dict[int, float]:
        """What a trial reported; nothing if it diverged: TPE takes late reports for a good sign."""
        return {} if trial.status == "diverged" else trial.curve(self._search.metric)

    def suggest(self, index: int, fixed: Mapping[str, Value]) -> dict[str, Value] | None:
        """The values of a new trial, which `create` will be told of."""
        if self._study.exhausted:
            return None
        trial = self._ask(index)
        values = self._unseen(index, fixed)
        if values is None and fixed:  # it was tried before, as it is
            values = self._unseen(index, {})
        if values is None:
            values = self._left_over(index)
        if values is None:
            self._study.tell(trial, state=TrialState.FAIL)
            return None
        self._study.give(trial, self._parameters, values)
        self._asked = index, trial
        return values

    def create(self, trial: Trial) -> None:
        """Take over a trial that was created: the one asked for, or one of an earlier start."""
        asked, self._asked = self._asked, None
        if asked is not None and asked[0] == trial.index:
            self._running[trial.trial_id] = asked[1]
        else:
            again = self._ask(trial.index)
            if self._leaves_traces():
                self._unseen(trial.index, {})
            self._study.give(again, self._parameters, trial.values)
            self._running[trial.trial_id] = again
        self._seen.add(_key(trial.values))

    def _leaves_traces(self) -> bool:
        """Whether a sampler writes into its study what it needs later, as CMA-ES its optimizer.

        TPE does with conditions: what a running trial would have in the branches it did not take.
        Such a sampler is asked again in a rebuild; the others' asking would be time lost.
        """
        if isinstance(self._study.sampler, TPESampler):
            return any(dimension.when for dimension in self._space)
        return not isinstance(self._study.sampler, GPSampler)

    def end(self, trial: Trial, end: End) -> None:
        running = self._running.pop(trial.trial_id)
        if len(self._study.directions) == 1:
            for epoch, value in sorted(self._steps_of(trial).items()):
                running.report(value, epoch)
        elif end.state is TrialState.PRUNED:
            # Optuna knows no steps there. What breaks a constraint comes behind all that ran to
            # their end, those that came furthest first; one that diverged late is no good sign.
            came = 0 if end.status == "diverged" else end.epochs
            running.set_constraint("epochs missing", max(1.0, self._epochs - came))
        self._study.tell(running, end.values, end.state)

    def _ask(self, index: int) -> optuna.Trial:
        self._study.sampler = self._sampler(index, 0)
        return self._study.ask()

    def _unseen(self, index: int, fixed: Mapping[str, Value]) -> dict[str, Value] | None:
        """What the sampler suggests for the trial just asked for, if no trial had it before."""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._study.sampler = self._sampler(index, attempt)
            values = self._draw(fixed)
            if _key(values) not in self._seen:
                return values
        return None

    def _draw(self, fixed: Mapping[str, Value]) -> dict[str, Value]:
        """Values as Optuna's `Trial.suggest_...` would give them, but these can be drawn again.

        Optuna asks a sampler once for each trial; an attempt of ours costs none.
        """
        sampler, study = self._study.sampler, self._study
        # The newest trial, as samplers are given it; this copy will hold what is drawn so far.
        trial = copy.deepcopy(study.get_trials(deepcopy=False)[-1])
        together = sampler.infer_relative_search_space(study, trial)
        drawn = dict(sampler.sample_relative(study, trial, together))
        values: dict[str, Value] = {}
        for one in self._parameters:
            if not one.dimension.active(values):
                continue
            field, name = one.dimension.field, one.name
            if field in fixed:
                values[field] = fixed[field]
            elif one.distribution.single():
                values[field] = one.dimension.values[0]
            else:
                if name not in drawn:
                    drawn[name] = sampler.sample_independent(study, trial, name, one.distribution)
                values[field] = one.decode(drawn[name])
            trial.params[name] = one.encode(values[field])
            trial.distributions[name] = one.distribution
        return values

    def _left_over(self, index: int) -> dict[str, Value] | None:
        """A random point that no trial had, where the sampler insists on old ones."""
        count = count_points(self._space)
        if count is None or len(self._seen) >= count:
            return None
        rng = random.Random(f"{self._seed}:{index}:left over")
        if math.prod(dimension.size or 0 for dimension in self._space) <= MAX_GRID_POINTS:
            return rng.choice([p for p in _all_points(self._space) if _key(p) not in self._seen])
        while True:  # of so many, most are left
            values: dict[str, Value] = {}
            for dimension in self._space:
                if dimension.active(values):
                    values[dimension.field] = dimension.draw(rng)
            if _key(values) not in self._seen:
                return values


_Key = tuple[tuple[str, bool, Value], ...]


def _key(values: Mapping[str, Value]) -> _Key:
    """A configuration as a set can hold it; true is not 1 there."""
    return tuple((name, isinstance(values[name], bool), values[name]) for name in sorted(values))


def _all_points(space: Space) -> list[dict[str, Value]]:
    whole = [
        dimension
        if dimension.values
        else replace(dimension, values=tuple(range(int(dimension.low), int(dimension.high) + 1)))
        for dimension in space
    ]
    return grid_points(tuple(whole))


class _Study(optuna.Study):
    """A study in memory: its trials get what was chosen for them, its sampler may be at the end."""

    def __init__(self, plan: Plan, sampler: BaseSampler) -> None:
        storage, name = InMemoryStorage(), "search"
        storage.create_new_study(directions_of(plan.search), name)
        super().__init__(name, storage, sampler, NopPruner())
        self.exhausted = False

    def give(
        self, trial: optuna.Trial, parameters: Iterable[Parameter], values: Mapping[str, Value]
    ) -> None:
        for one in parameters:
            if one.dimension.field in values:
                given = one.encode(values[one.dimension.field])
                internal = one.distribution.to_internal_repr(given)
                self._storage.set_trial_param(trial._trial_id, one.name, internal, one.distribution)

    def stop(self) -> None:
        """Note it, where Optuna would end its own loop."""
        self.exhausted = True
