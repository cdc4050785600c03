"""Which trials enter the finals, and how many trainings of them fit into a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cifar_tune.errors import PlanError
from cifar_tune.plan.finals_config import FinalsConfig
from cifar_tune.plan.forecast import compares
from cifar_tune.plan.own_code import nearest
from cifar_tune.plan.space import Value
from cifar_tune.plan.task import columns_of
from cifar_tune.record.ranking import best_epoch, ranked
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial

START_SECONDS = 20.0  # until a cold worker trains: imports of torch and Lightning


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A trial that enters the finals: its configuration, and what it was chosen by.

    Attributes:
        metric, value: the first of the plan's columns, and what it was in that epoch.
    """

    trial_id: str
    epoch: int
    metric: str
    value: float
    values: dict[str, Value]

    def as_event(self) -> dict[str, Any]:
        judged = {"trial_id": self.trial_id, "epoch": self.epoch, self.metric: self.value}
        return {**judged, "values": self.values}

    @classmethod
    def from_event(cls, event: Mapping[str, Any], metric: str) -> Candidate:
        judged = {name: event[name] for name in ("trial_id", "epoch", "values")}
        return cls(**judged, metric=metric, value=event[metric])


def pick_candidates(results: Results, count: int) -> list[Candidate]:
    """The best `count` trials by the plan's metric, or of those that it names; best first, each
    configuration once."""
    search, candidates = results.plan.search, list[Candidate]()
    metric, named = columns_of(results.plan)[0], named_trials(results)
    for trial in named or ranked(results.trials.values(), results.plan):
        epoch = best_epoch(trial, search)
        values = trial.values_at(epoch)
        if all(values != other.values for other in candidates):
            candidates.append(
                Candidate(
                    trial_id=trial.trial_id,
                    epoch=epoch,
                    metric=metric,
                    value=trial.results[epoch][metric],
                    values=values,
                )
            )
        if len(candidates) == count:
            break
    return candidates


def check_named(results: Results) -> None:
    """A PlanError unless the trials that the plan names for the finals can be judged."""
    wanted, trials = results.plan.finals.trials, results.trials
    for name in wanted:
        if name not in trials or not trials[name].usable:
            fault = "has no epoch that it can be judged by" if name in trials else "is not there"
            raise PlanError(
                f"finals.trials has {name!r}, which {fault} in {results.folder}; name trials as its"
                f" trials.csv does{nearest(name, trials)}"
            )


def named_trials(results: Results) -> list[Trial]:
    """The trials that the plan names for the finals and that can be judged, the best first."""
    named = (results.trials.get(name) for name in results.plan.finals.trials)
    return ranked((trial for trial in named if trial is not None), results.plan)


def fitting(results: Results, seconds: float, slots: int) -> FinalsConfig | None:
    """The largest finals that a time holds by the search's own speed; none if not even one seed.

    Candidates are given up before seeds: an interval needs seeds.

    Args:
        results: of the search, with at least one report.
        seconds: what is left.
        slots: trainings at once.
    """
    wanted = results.plan.finals
    sizes = [(k, wanted.seeds) for k in range(wanted.compared, 0, -1)]
    sizes += [(1, n) for n in range(wanted.seeds - 1, 0, -1)]
    for candidates, seeds in sizes:
        if forecast_seconds(results, candidates, seeds, slots) <= seconds:
            return wanted.model_copy(update={"candidates": candidates, "seeds": seeds})
    return None


def final_examples(facts: Mapping[str, Any]) -> int:
    """Examples that a final model is trained on."""
    return int(facts.get("final", sum(facts[name] for name in ("train", "val", "confirm"))))


def forecast_seconds(results: Results, candidates: int, seeds: int, slots: int) -> float:
    """How long finals of this size would take, by the mean epoch of the search."""
    plan, cost, data = results.plan, results.cost(), results.data
    training = float(plan.train.max_epochs * cost["busy_seconds"] / max(1, cost["epochs_run"]))
    whole = final_examples(data) / max(1, int(data["train"]))
    seconds = START_SECONDS + math.ceil(seeds / slots) * training * whole
    if candidates > 1 and compares(plan):
        seconds += START_SECONDS + math.ceil(candidates * seeds / slots) * training
    return seconds
