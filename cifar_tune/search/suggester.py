"""The ways to search: one word of the plan gives a `Suggester`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError
from ray.tune.search import Searcher

from cifar_tune.errors import PlanError
from cifar_tune.plan.compatibility import load_factory
from cifar_tune.plan.config import Plan
from cifar_tune.plan.points import draw_random, lies_in
from cifar_tune.plan.space import Value
from cifar_tune.plan.task import columns_of
from cifar_tune.record.journal import Event
from cifar_tune.record.results import Results
from cifar_tune.record.trials import ENDED, Trial, id_of
from cifar_tune.record.warm_start import trial_record
from cifar_tune.search.configurations import Configurations
from cifar_tune.search.priorband import PriorBand

log = logging.getLogger(__name__)

VALUELESS = ("failed", "diverged")


class NotNow(Exception):  # noqa: N818 - a state, like StopIteration, not an error
    """There are more configurations, but none before another trial has ended."""


class Suggester(Protocol):
    """Suggests the configuration of each new trial.

    When a search goes on, a fresh suggester is told all recorded events first, in their order;
    then, and in a new search from the start, each event as it is written. So it needs no state of
    its own on the disk.
    """

    def suggest(self, index: int, fixed: Mapping[str, Value]) -> dict[str, Value] | None:
        """The values of trial `index` (from 0), or none if there are no more to be had.

        `fixed` holds values that are settled already (a known good point); the rest is suggested.
        The event `trial_created` with these values follows before the next call.

        Raises:
            NotNow: ask again when a trial has ended.
        """

    def observe(self, event: Event, results: Results) -> None:
        """Learn from one event; `results` has taken it in already."""


def build_suggester(plan: Plan, folder: Path) -> Suggester:
    """The suggester of a plan, with nothing told; `folder`: of the search's results.

    Raises:
        PlanError: a searcher of the user's own can't be used.
    """
    searcher = plan.search.searcher
    if searcher in ("grid", "random", "sobol"):
        return Configurations(plan)
    if searcher == "priorband":
        return PriorBand(plan)
    if ":" in searcher:
        return _users_own(plan, folder, load_factory(searcher)(plan))
    # Optuna costs a second of imports, which the ways above can do without.
    from cifar_tune.search.bohb import BohbStudy
    from cifar_tune.search.study import OptunaStudy, sampler_of

    kind = BohbStudy if searcher == "bohb" else OptunaStudy
    return kind(plan, folder, sampler_of(plan))


def _users_own(plan: Plan, folder: Path, made: Any) -> Suggester:
    """What a user's factory made: an Optuna sampler, a Ray searcher, or a suggester."""
    from optuna.samplers import BaseSampler

    from cifar_tune.search.study import OptunaStudy

    if isinstance(made, BaseSampler):
        return OptunaStudy(plan, folder, lambda _: made)
    if isinstance(made, Searcher):
        return RaySearcherSuggester(plan, made)
    if hasattr(made, "suggest") and hasattr(made, "observe"):
        return made  # type: ignore[no-any-return]
    raise PlanError(
        f"search.searcher is {plan.search.searcher!r}, which made {type(made).__name__}; it must"
        " return an optuna.samplers.BaseSampler, a ray.tune.search.Searcher, or an object with"
        " suggest(index, fixed) and observe(event, results)"
    )


class RaySearcherSuggester:
    """Suggests by a `ray.tune.search.Searcher`, under our trial ids.

    It hears of its own trials as Ray would tell it: `on_trial_result` while they go on,
    `on_trial_complete` with the last report at their end. Of all others (known good points, an
    earlier search's, those of earlier starts) it hears by `add_evaluated_point` once they ended.
    """

    def __init__(self, plan: Plan, searcher: Searcher) -> None:
        """Begin without knowledge.

        Raises:
            PlanError: the searcher goes by something that trials do not report.
        """
        self._plan, self._searcher = plan, searcher
        self._space = plan.search.parsed_space
        self._asked: set[str] = set()  # it suggested these, and they go on
        self._others: list[Trial] = []  # it did not suggest these, and does not know them yet
        self._earlier: list[dict[str, Any]] = []  # of the search that this one started from
        self._learns = True
        if searcher.metric is None:
            searcher.set_search_properties(plan.search.metric, plan.search.mode, {})
        self._check_goal()

    def _check_goal(self) -> None:
        metric, mode, search = self._searcher.metric, self._searcher.mode, self._plan.search
        known = sorted({search.metric, *columns_of(self._plan)})
        if metric is not None and metric not in known:
            raise self._error(f"goes by {metric!r}; it must be one of {', '.join(known)}")
        if metric == search.metric and mode != search.mode:
            raise self._error(f"has mode {mode!r} for {metric}; give it mode {search.mode!r}")

    def _error(self, fault: str) -> PlanError:
        name = type(self._searcher).__name__
        return PlanError(f"search.searcher is {self._plan.search.searcher!r}: its {name} {fault}")

    def suggest(self, index: int, fixed: Mapping[str, Value]) -> dict[str, Value] | None:
        """The values of trial `index`; what a known good point leaves open is drawn at random.

        Raises:
            NotNow: the searcher has none before another trial has ended.
            PlanError: it suggested what can't be trained.
        """
        self._tell_others()
        if fixed:  # a Ray searcher can't be told what it should suggest
            return draw_random(self._space, self._plan.seed, index, fixed)
        name = id_of(index)
        suggested = self._searcher.suggest(name)
        if suggested is None:
            raise NotNow(f"{type(self._searcher).__name__} has none")
        if suggested == Searcher.FINISHED:
            return None
        values = self._checked(suggested, index)
        self._asked.add(name)
        return values

    def _checked(self, suggested: Any, index: int) -> dict[str, Value]:
        """The suggestion in plain values, without fields whose condition does not hold."""
        fields = [dimension.field for dimension in self._space]
        if not isinstance(suggested, Mapping) or not suggested:
            raise self._error(f"suggested {suggested!r}; it must suggest {{field: value}}")
        for field in suggested:
            if field not in fields:
                raise self._error(
                    f"suggested {field}, which is not in search.space; its fields are"
                    f" {', '.join(fields)}"
                )
        values: dict[str, Value] = {}
        for dimension in self._space:
            if dimension.field in suggested and dimension.active(values):
                values[dimension.field] = _plain(suggested[dimension.field])
        try:
            self._plan.run(values, index)
        except ValidationError as error:
            wrong = error.errors()[0]
            place = ".".join(str(part) for part in wrong["loc"])
            raise self._error(f"suggested {place}: {wrong['input']!r}; {wrong['msg']}") from None
        return values

    def observe(self, event: Event, results: Results) -> None:
        """Tell the searcher what happened to its trials, and keep the others in mind."""
        if event["event"] == "started_from":
            self._earlier = list(event["trials"])
            return
        name = event.get("trial_id")
        if name in self._asked:
            self._tell_of(event, results.trials[name])
        elif event["event"] == "trial_created":
            self._others.append(results.trials[event["trial_id"]])

    def _tell_of(self, event: Event, trial: Trial) -> None:
        name, ended = trial.trial_id, trial.status in ENDED
        if ended:
            self._asked.discard(name)
            failed = trial.status in VALUELESS
            result = None if failed else _as_ray_tells(trial, ended=True)
            self._searcher.on_trial_complete(name, result=result, error=failed)
        elif event["event"] == "result":
            self._searcher.on_trial_result(name, _as_ray_tells(trial, ended=False))

    def _tell_others(self) -> None:
        ended = [trial for trial in self._others if trial.status in ENDED]
        self._others = [trial for trial in self._others if trial.status not in ENDED]
        points = [
            *self._earlier,
            *(trial_record(trial, self._plan.search.metric) for trial in ended),
        ]
        self._earlier = []
        usable = [one for one in points if one["results"] and one["status"] not in VALUELESS]
        fitting = [point for point in usable if lies_in(self._space, point["values"])]
        name = type(self._searcher).__name__
        if len(fitting) < len(usable):
            outside = len(usable) - len(fitting)
            log.warning("%s is not told of %d trials outside search.space", name, outside)
        try:
            for point in fitting if self._learns else ():
                self._add(point)
        except NotImplementedError:
            self._learns = False
            log.warning(
                "%s can't be told of trials that it did not suggest itself (it has no"
                " add_evaluated_point): it starts without what %d of them show",
                name,
                len(fitting),
            )

    def _add(self, point: Mapping[str, Any]) -> None:
        course = [value for _, value in point["results"]]
        self._searcher.add_evaluated_point(
            dict(point["values"]),
            course[-1],
            pruned=point["status"] == "stopped",
            intermediate_values=course,
        )


def _as_ray_tells(trial: Trial, *, ended: bool) -> dict[str, Any]:
    """The newest report with what searchers read of Ray's own additions."""
    added = {"trial_id": trial.trial_id, "training_iteration": trial.epochs, "done": ended}
    return {**trial.results[trial.epochs], **added, "config": dict(trial.values)}


def _plain(value: Any) -> Value:
    """numpy's numbers as Python's; the plan refuses what is neither."""
    plain: Value = value.item() if hasattr(value, "item") else value
    return plain
