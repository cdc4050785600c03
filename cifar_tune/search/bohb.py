"""BOHB's searcher: Ray's TuneBOHB over our space, in plain values and under our trial ids.

Falkner et al. 2018, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale".
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cifar_tune.errors import PlanError
from cifar_tune.plan.config import Plan
from cifar_tune.plan.points import draw_random, lies_in
from cifar_tune.plan.space import Value
from cifar_tune.record.journal import Event
from cifar_tune.record.results import Results
from cifar_tune.record.trials import id_of
from cifar_tune.search.bohb_space import BohbSpace
from cifar_tune.search.suggester import NotNow

NOT_RESUMABLE = (
    "BOHB's paused trials and half-filled brackets are in Ray's memory only, and are gone; start a"
    " new search, whose search.start_from may name this one's folder"
)


class BohbSuggester:
    """Suggests by BOHB's model of good and bad configurations; learns by `on_trial_result`.

    Ray's scheduler adds to each report at a rung its budget, in epochs, so it is Ray, and not the
    journal, that the model learns from.
    """

    def __init__(self, plan: Plan) -> None:
        """Begin without knowledge.

        Raises:
            PlanError: the space leaves nothing to choose.
        """
        self._search, self._seed = plan.search, plan.seed
        self._budgets = budgets(plan)
        self._space = BohbSpace(plan.search.parsed_space)
        self._known: list[dict[str, Any]] = []  # shared with TuneBOHB, which takes from it
        self._told: set[tuple[str, int]] = set()
        self._configs: dict[str, dict[str, Any]] = {}
        self._numpy = _numpy_state(plan.seed)
        with self._foreign_code():
            self._bohb = self._tune_bohb(plan.seed)

    def _tune_bohb(self, seed: int) -> Any:
        from ray.tune.search.bohb import TuneBOHB

        space = self._space.config_space(seed)
        if not len(space):
            raise PlanError(
                "search.space has a single value for each field, which leaves bohb nothing to"
                " choose; use --searcher grid"
            )
        metric, mode = self._search.metric, self._search.mode
        return TuneBOHB(space, metric=metric, mode=mode, points_to_evaluate=self._known)

    def suggest(self, index: int, fixed: Mapping[str, Value]) -> dict[str, Value] | None:
        """The values of trial `index`.

        Raises:
            NotNow: as many trials run as may.
        """
        self._known.clear()
        if fixed:
            values = draw_random(self._space.dimensions, self._seed, index, fixed)
            self._known.append(self._space.encode(values))
        name = id_of(index)
        with self._foreign_code():
            config = self._bohb.suggest(name)
        if config is None:
            raise NotNow("as many trials run as may")
        self._configs[name] = config
        return self._space.decode(config)

    def observe(self, event: Event, results: Results) -> None:
        """Learn from an earlier search's trials; those of this search come through Ray."""
        if event["event"] == "started_from":
            self._learn(event["source"], event["trials"])

    def _learn(self, source: str, trials: list[dict[str, Any]]) -> None:
        for number, trial in enumerate(trials):
            if not lies_in(self._space.dimensions, trial["values"]):
                continue
            config = self._space.encode(trial["values"])
            for epoch, value in trial["results"]:
                if epoch in self._budgets:
                    self._tell(f"{source}:{number}", config, {self._search.metric: value}, epoch)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A report after which a trial goes on, or pauses at a rung."""
        if trial_id not in self._bohb.paused:
            self._bohb.running.add(trial_id)  # it may be one that is tried again
        budget = result.get("hyperband_info", {}).get("budget")
        if budget is not None:
            self._tell_once(trial_id, result, budget)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial ended. Ray does not pass on the report that a trial is stopped at."""
        if result and "epoch" in result and not error:
            epoch = result["epoch"]
            if result["diverged"] or epoch in self._budgets:
                budget = min(budget for budget in self._budgets if budget >= epoch)
                self._tell_once(trial_id, result, budget)
        self._bohb.running.discard(trial_id)
        self._bohb.paused.discard(trial_id)

    def _tell_once(self, trial_id: str, result: dict[str, Any], budget: int) -> None:
        """A trial that is tried again may report an epoch twice, or be of an earlier start."""
        config = self._configs.get(trial_id)
        if config is not None and (trial_id, budget) not in self._told:
            self._told.add((trial_id, budget))
            self._tell(trial_id, config, result, budget)

    def _tell(self, key: str, config: dict[str, Any], result: dict[str, Any], budget: int) -> None:
        self._bohb.trial_to_params[key] = config
        with self._foreign_code():
            told = {**result, "hyperband_info": {"budget": budget}}
            self._bohb.bohber.new_result(self._bohb.to_wrapper(key, told))

    def on_pause(self, trial_id: str) -> None:
        """A trial pauses at a rung, and leaves its place to a new one."""
        self._bohb.on_pause(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """A trial has passed its rung and goes on."""
        self._bohb.on_unpause(trial_id)

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """BOHB itself counts the trials that run: Ray's own limit counts the paused ones too."""
        return bool(self._bohb.set_max_concurrency(max_concurrent))

    @contextmanager
    def _foreign_code(self) -> Iterator[None]:
        """hpbandster draws from numpy's global state, which gets a seed of ours meanwhile.

        It was written for older versions of its packages: dozens of deprecation warnings a call,
        and in its densities divisions by zero, which it expects and sorts out.
        """
        import numpy as np

        outside = np.random.get_state()
        np.random.set_state(self._numpy)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            self._numpy = np.random.get_state()
            np.random.set_state(outside)


def budgets(plan: Plan) -> tuple[int, ...]:
    """The epochs at which brackets compare trials, and at which these pause, ascending.

    They are computed as Ray computes them, rounding included. The last is `train.max_epochs`.
    """
    import numpy as np

    longest, factor = plan.train.max_epochs, plan.search.reduction_factor
    brackets = int(np.round(np.log(longest) / np.log(factor))) + 1
    rungs = {longest}
    for halvings in range(brackets):
        epochs = int(longest * factor**-halvings)
        for _ in range(halvings + 1 if epochs else 0):
            rungs.add(epochs)
            epochs = min(epochs * factor, longest)
    return tuple(sorted(rungs))


def _numpy_state(seed: int) -> Any:
    import numpy as np

    return np.random.RandomState(seed).get_state()
