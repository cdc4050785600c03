"""Configurations near what is thought to be good, near what was found to be, and at random.

Mallik et al. 2023, "PriorBand: Practical Hyperparameter Optimization in the Age of Deep Learning".
Half of the configurations are drawn at random, so that a wrong prior costs half of a search at
most. The others come from near the priors or from near the best trial so far, the more from one of
the two, the more likely it makes the best trials.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from cifar_tune.plan.config import Plan
from cifar_tune.plan.points import draw_random, fill, priors_of
from cifar_tune.plan.rungs import rung_epochs, rungs_below
from cifar_tune.plan.space import Dimension, Prior, Value
from cifar_tune.record.journal import Event
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial

RANDOM_PART = 0.5
CHANGED_PART = 0.5  # of the best trial's fields, in one that is drawn near it; at least one

Priors = Mapping[str, Prior]


class PriorBand:
    """Suggests by priors and by what came of them: a `Suggester`.

    A suggestion is a function of the plan, the index and what was reported so far.
    """

    def __init__(self, plan: Plan) -> None:
        self._seed, self._search = plan.seed, plan.search
        self._space, self._priors = plan.search.parsed_space, priors_of(plan)
        self._trials: Mapping[str, Trial] = {}
        longest = plan.train.max_epochs
        self._budgets = (longest, *reversed(rungs_below(rung_epochs(plan), longest)))

    def observe(self, event: Event, results: Results) -> None:
        """Keep the trials in sight."""
        self._trials = results.trials

    def suggest(self, index: int, fixed: Mapping[str, Value]) -> dict[str, Value] | None:
        """Configuration `index` with the fixed values in it; never none."""
        rng = random.Random(f"{self._seed}:{index}:priorband")
        if rng.random() < RANDOM_PART:
            return draw_random(self._space, rng.getrandbits(32), index, fixed)
        best = self._best()
        if not best:
            return self._near(self._priors, index, fixed, rng)
        found = {field: Prior(value) for field, value in best[0].items()}
        by_priors, by_found = (self._likely(near, best) for near in (self._priors, found))
        if rng.random() < by_priors / (by_priors + by_found):
            return self._near(self._priors, index, fixed, rng)
        changed = {field for field in found if rng.random() < CHANGED_PART}
        changed = changed or {rng.choice(list(found))}
        kept = {field: prior.value for field, prior in found.items() if field not in changed}
        return self._near(found, index, {**kept, **fixed}, rng)

    def _near(
        self, priors: Priors, index: int, fixed: Mapping[str, Value], rng: random.Random
    ) -> dict[str, Value]:
        def draw(dimension: Dimension) -> Value:
            prior = priors.get(dimension.field)
            return dimension.draw(rng) if prior is None else dimension.draw_near(prior, rng)

        return fill(self._space, index, fixed, draw)

    def _best(self) -> list[dict[str, Value]]:
        """The best third at the longest training that enough trials came to, the best first."""
        search = self._search
        for budget in self._budgets:
            came = [
                (-search.sign * figures[search.metric], trial.index, trial)
                for trial in self._trials.values()
                if search.metric in (figures := trial.results.get(budget, {}))
            ]
            if len(came) >= search.reduction_factor:
                came.sort(key=lambda one: one[:2])
                best = came[: len(came) // search.reduction_factor]
                return [trial.values_at(budget) for _, _, trial in best]
        return []

    def _likely(self, priors: Priors, best: Sequence[Mapping[str, Value]]) -> float:
        """How likely draws near these are to give the best trials; the first counts most."""
        ranks = range(len(best), 0, -1)
        return sum(r * self._density(priors, one) for r, one in zip(ranks, best, strict=True))

    def _density(self, priors: Priors, values: Mapping[str, Value]) -> float:
        return math.prod(
            dimension.density_near(priors[dimension.field], values[dimension.field])
            for dimension in self._space
            if dimension.field in priors and dimension.field in values
        )
