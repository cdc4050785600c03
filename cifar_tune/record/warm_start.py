"""What a search knows before its first trial: good points, or an earlier search's trials."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_tune.errors import PlanError, ResultsError, counted
from cifar_tune.plan.config import Plan, SearchConfig
from cifar_tune.plan.points import lies_in
from cifar_tune.plan.space import Value
from cifar_tune.plan.task import task_of
from cifar_tune.record.ranking import best_epoch, ranked
from cifar_tune.record.results import Results
from cifar_tune.record.trials import ENDED, Trial

LEARNS_NOTHING = ("random", "sobol", "priorband")
MOST_POINTS = 3  # of an earlier search; a searcher that learns gets the other trials as well
# What two searches may differ in without another outcome of their trials; a task has more of it.
SAME_OUTCOME = frozenset({"train.threads", "train.channels_last"})


@dataclass(frozen=True, kw_only=True)
class StartFrom:
    """Known good points to try first, and trials to learn from.

    Attributes:
        source: the earlier search's folder, or "the plan".
        points: values of the first trials, the best first; a point of the plan may be partial.
        trials: `values`, `status` and `results`, [[epoch, value of the metric], ...], of each.
        fingerprint: of the data that the trials were judged on; none without trials.
        notes: what is used and what is not, for people.
    """

    source: str
    points: tuple[dict[str, Value], ...]
    trials: tuple[dict[str, Any], ...] = ()
    fingerprint: str | None = None
    notes: tuple[str, ...] = ()

    def describe(self) -> list[str]:
        """Lines for people, in the style of the plan's forecast."""
        points = counted(len(self.points), "point")
        first = f"start from  {points} of {self.source}, tried first"
        return [first, *(f"note        {note}" for note in self.notes)]


def read_start_from(plan: Plan) -> StartFrom | None:
    """What `search.start_from` gives, or none if it is not given.

    Data can't be compared here: the caller compares `fingerprint` once the dataset is open.

    Raises:
        PlanError: the folder holds no search, or none that tells anything about this plan's space.
    """
    given = plan.search.start_from
    if given is None:
        return None
    if not isinstance(given, str):
        return StartFrom(source="the plan", points=tuple(given))
    source = _read_search(Path(given))
    _check_same_aim(source, plan)
    fitting = _fitting_trials(source, plan.search)
    # Where a population changed the values on the way, results do not belong to them.
    teaching = [one for one in fitting if one.status in ENDED and not one.earlier_values]
    if plan.search.objectives:  # of its trials the metric alone is recorded
        teaching = []
    return StartFrom(
        source=given,
        points=tuple(_best_points(fitting, plan)),
        trials=tuple(trial_record(trial, plan.search.metric) for trial in teaching),
        fingerprint=source.data.get("fingerprint"),
        notes=tuple(_notes(source, plan, fitting)),
    )


def _read_search(folder: Path) -> Results:
    try:
        source = Results.read(folder)
    except ResultsError as error:
        raise PlanError(f"search.start_from: {error}") from None
    if not source.trials:
        raise PlanError(
            f"search.start_from is {folder}, a search that has no trial yet; give the folder of a"
            " search that ran, or a list of points"
        )
    return source


def _check_same_aim(source: Results, plan: Plan) -> None:
    if source.plan.task != plan.task:
        raise PlanError(
            f"search.start_from is {source.folder}, a search of the task {source.plan.task}, and"
            f" task is {plan.task}: they have no fields in common; list points"
        )
    metric, search = source.plan.search.metric, plan.search
    if metric != search.metric:
        raise PlanError(
            f"search.start_from is {source.folder}, a search by {metric}, and search.metric is"
            f" {search.metric}: their best trials are not the same; give --set"
            f" search.metric={metric}, or list points"
        )


def _fitting_trials(source: Results, search: SearchConfig) -> list[Trial]:
    """The trials that this plan's space could have given; at least one of them reported."""
    space = search.parsed_space
    trials = list(source.trials.values())
    fitting = [trial for trial in trials if lies_in(space, trial.values)]
    if not any(trial.results for trial in fitting):
        raise PlanError(
            f"search.start_from is {source.folder}, where none of {len(trials)} trials has results"
            f" and values of this plan's space; it searched {', '.join(source.plan.search.space)},"
            f" and this plan {', '.join(search.space)}: search the same fields, in ranges that"
            " hold its values, or list points"
        )
    return fitting


def _best_points(trials: Iterable[Trial], plan: Plan) -> list[dict[str, Value]]:
    """The values of the best few trials, each point once, the best first."""
    points = list[dict[str, Value]]()
    for trial in ranked(trials, plan):
        if len(points) == min(MOST_POINTS, plan.search.num_samples):
            break
        values = trial.values_at(best_epoch(trial, plan.search))
        if values not in points and lies_in(plan.search.parsed_space, values):
            points.append(values)
    return points


def trial_record(trial: Trial, metric: str) -> dict[str, Any]:
    """A trial as the event `started_from` has it."""
    results = [[epoch, value] for epoch, value in trial.curve(metric).items()]
    return {"values": trial.values, "status": trial.status, "results": results}


def _notes(source: Results, plan: Plan, fitting: list[Trial]) -> list[str]:
    name, total = source.folder, len(source.trials)
    notes = [f"{len(fitting)} of {total} trials of {name} lie in this space"]
    changed = sum(bool(trial.earlier_values) for trial in fitting)
    if plan.search.searcher in LEARNS_NOTHING:
        notes.append(f"{plan.search.searcher} learns nothing from them: their best are tried first")
    elif plan.search.objectives:
        notes.append(
            f"{plan.search.searcher} learns nothing from them, since only their"
            f" {plan.search.metric} is taken over: their best are tried first"
        )
    elif changed:
        notes.append(f"{changed} of them changed their values on the way: nothing is learnt there")
    differences = _differences(source.plan, plan)
    if differences:
        notes.append(f"{name} trained under other fixed values: {'; '.join(differences)}")
    return notes


def _differences(source: Plan, plan: Plan) -> list[str]:
    """What the earlier search fixed otherwise, so that its trials may not tell what is good now."""
    found = []
    same_outcome = SAME_OUTCOME | task_of(plan).free
    for section in plan.sections():
        old, new = getattr(source, section).model_dump(), getattr(plan, section).model_dump()
        for key in old:
            field = f"{section}.{key}"
            searched = field in source.search.space or field in plan.search.space
            same = old[key] == new[key] or new[key] == "auto" or field in same_outcome
            if not same and not searched:
                found.append(f"{field} was {old[key]} and is {new[key]}")
    return found
