"""Where configurations come from: unfinished trials first, then new ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ray.tune.search import Searcher

from cifar_tune.config import Plan
from cifar_tune.preflight import number_of_trials
from cifar_tune.results import UNFINISHED, Recorder, Trial
from cifar_tune.spaces import Value, draw_random, grid_points


class Configurations(Sequence[dict[str, Value]]):
    """All configurations of a grid or random search, in order; a function of the plan alone.

    They are made when asked for: of ten million samples most are never reached.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._space = plan.search.parsed_space
        self._count = number_of_trials(plan)
        self._grid = grid_points(self._space) if plan.search.searcher == "grid" else None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        """Configuration `index`, from 0."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        if self._grid is not None:
            return self._grid[index]
        return draw_random(self._space, self._plan.seed, index)


def id_of(index: int) -> str:
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
        self._configurations = Configurations(plan)
        self._next = len(trials)  # trials are created in the order of their index

    def remaining(self) -> int:
        """Trials that are still to be handed out."""
        return len(self._unfinished) + len(self._configurations) - self._next

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next configuration, or Ray's word for none left."""
        if self._unfinished:
            trial = self._unfinished.pop(0)
            return self._hand_out(trial, self._resume(trial))
        if self._next >= len(self._configurations):
            return str(Searcher.FINISHED)
        self._next += 1
        return self._hand_out(self._create(self._next - 1), [])

    def _create(self, index: int) -> Trial:
        results, name, values = self._recorder.results, id_of(index), self._configurations[index]
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
