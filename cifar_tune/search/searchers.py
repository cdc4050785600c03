"""Where configurations come from: unfinished trials first, then new ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ray.tune.search import Searcher

from cifar_tune.config import Plan
from cifar_tune.results import Recorder, Trial
from cifar_tune.spaces import Value, draw_random, grid_points

UNFINISHED = ("pending", "running", "interrupted")


def configurations(plan: Plan) -> Iterator[dict[str, Value]]:
    """All configurations of a grid or random search, in order; a function of the plan alone."""
    space = plan.search.parsed_space
    if plan.search.searcher == "grid":
        yield from grid_points(space)[: plan.search.num_samples]
        return
    for index in range(plan.search.num_samples):
        yield draw_random(space, plan.seed, index)


def trial_id(index: int) -> str:
    """The id of trial `index` (from 0): t0001 for the first."""
    return f"t{index + 1:04d}"


class JournalledSearcher(Searcher):
    """Hands out the unfinished trials of a journal, then new configurations, each journalled first.

    Ray's own trial ids are of no use after a restart, so ours travel in the configuration.
    """

    def __init__(self, recorder: Recorder, resume: Callable[[Trial], list[str]]) -> None:
        """`resume` gives the checkpoints that a trial can go on from, the newest first."""
        plan = recorder.results.plan
        super().__init__(metric=plan.search.metric, mode=plan.search.mode)
        self._recorder = recorder
        self._resume = resume
        trials = recorder.results.trials
        self._unfinished = [trial for trial in trials.values() if trial.status in UNFINISHED]
        self._fresh = [
            (index, values)
            for index, values in enumerate(configurations(plan))
            if trial_id(index) not in trials
        ][::-1]

    def remaining(self) -> int:
        """Trials that are still to be handed out."""
        return len(self._unfinished) + len(self._fresh)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next configuration, or Ray's word for none left."""
        if self._unfinished:
            trial = self._unfinished.pop(0)
            return self._hand_out(trial, self._resume(trial))
        if not self._fresh:
            return str(Searcher.FINISHED)
        return self._hand_out(self._create(*self._fresh.pop()), [])

    def _create(self, index: int, values: dict[str, Value]) -> Trial:
        results, name = self._recorder.results, trial_id(index)
        seed = results.plan.seed + index
        self._recorder.write("trial_created", trial_id=name, index=index, seed=seed, values=values)
        return results.trials[name]

    def _hand_out(self, trial: Trial, checkpoints: list[str]) -> dict[str, Any]:
        return {
            "trial_id": trial.trial_id,
            "index": trial.index,
            "values": trial.values,
            "checkpoints": checkpoints,
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Grid and random search learn nothing from results."""
