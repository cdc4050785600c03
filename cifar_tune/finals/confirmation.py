"""Compares the candidates' new trainings on examples that the search never saw, and chooses one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from cifar_tune.finals.candidates import Candidate
from cifar_tune.finals.uncertainty import (
    MIN_SEEDS,
    Comparison,
    Figures,
    alike,
    compare,
    seeds_to_tell,
    standard_deviation,
)
from cifar_tune.plan.finals_config import FinalsConfig
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial

FRESH = "confirmation examples"
Cost = Mapping[str, int]
"""What a configuration costs on any machine: `multiply_adds` of an example, and `parameters`."""


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """A candidate's trainings: the figures of each, [trainings, examples], and what one took.

    A training that diverged has the worst figure throughout; one that failed is not among them.
    """

    candidate: Candidate
    seeds: list[int]
    figures: Figures
    train_seconds: float
    cost: Cost | None = None
    diverged: int = 0
    failed: int = 0

    @property
    def name(self) -> str:
        """The trial that it was in the search."""
        return self.candidate.trial_id

    @property
    def mean(self) -> float:
        return float(self.figures.mean())

    def as_event(self) -> dict[str, Any]:
        scores = [float(score) for score in self.figures.mean(axis=1)]
        return {
            "trial_id": self.name,
            "epoch": self.candidate.epoch,
            self.candidate.metric: self.candidate.value,
            "seeds": self.seeds,
            "scores": scores,
            "mean": self.mean,
            "std": standard_deviation(scores),
            "train_seconds": round(self.train_seconds, 3),
            "cost": None if self.cost is None else dict(self.cost),
            "diverged": self.diverged,
            "failed": self.failed,
        }


def gather(
    candidates: Sequence[Candidate],
    trainings: Results,
    figures: Mapping[str, Figures],
    sign: int = 1,
) -> dict[str, Confirmed]:
    """Put the trainings to their candidates, who take turns, by their trial's id.

    Args:
        candidates: in the order of the trainings' points.
        trainings: as `retrain` gave them.
        figures: of each completed training, by its id: [examples].
        sign: -1 where less of them is better.

    Returns:
        The candidates that have a training that was completed.
    """
    every, count = list(trainings.trials.values()), len(candidates)
    turns = [[trial for trial in every if trial.index % count == turn] for turn in range(count)]
    return {
        candidate.trial_id: _confirmed(candidate, own, figures, sign)
        for candidate, own in zip(candidates, turns, strict=True)
        if any(trial.trial_id in figures for trial in own)
    }


def _confirmed(
    candidate: Candidate, trainings: Sequence[Trial], figures: Mapping[str, Figures], sign: int
) -> Confirmed:
    completed = [trial for trial in trainings if trial.trial_id in figures]
    judged = [*completed, *(trial for trial in trainings if trial.status == "diverged")]
    first = figures[completed[0].trial_id]
    worst = np.full_like(first, sign * min((sign * one).min() for one in figures.values()))
    if first.dtype == np.bool_:
        worst[:] = False
    return Confirmed(
        candidate=candidate,
        seeds=[trial.seed for trial in judged],
        figures=np.stack([figures.get(trial.trial_id, worst) for trial in judged]),
        train_seconds=median(trial.busy_seconds for trial in completed),
        diverged=len(judged) - len(completed),
        failed=len(trainings) - len(judged),
    )


def joined(first: Confirmed, more: Confirmed) -> Confirmed:
    """Two lots of trainings of one candidate as one."""
    return Confirmed(
        candidate=more.candidate,
        seeds=[*first.seeds, *more.seeds],
        figures=np.concatenate(alike([first.figures, more.figures])),
        train_seconds=(first.train_seconds + more.train_seconds) / 2,
        cost=more.cost or first.cost,
        diverged=first.diverged + more.diverged,
        failed=first.failed + more.failed,
    )


def choose(
    confirmed: Sequence[Confirmed],
    wanted: FinalsConfig | None = None,
    *,
    sign: int = 1,
    on: str = FRESH,
) -> tuple[Confirmed, dict[str, Any]]:
    """Choose the one with the best mean, or a cheaper one if that is asked for and shown.

    Args:
        confirmed: at least one.
        wanted: with `prefer: cheap`, the cheapest is chosen of those whose simultaneous interval
            shows that they are not worse than the best by more than `margin`.
        sign: 1 where a higher mean is better, -1 where a lower one is.
        on: which examples they are.

    Returns:
        The chosen one, and the comparison as the journal holds it, with a sentence for people.
    """
    wanted = wanted or FinalsConfig()
    if len({one.figures.shape[1] for one in confirmed}) > 1:
        told = alike([one.figures for one in confirmed])
        confirmed = [replace(one, figures=f) for one, f in zip(confirmed, told, strict=True)]
    ranking = sorted(confirmed, key=lambda one: sign * one.mean, reverse=True)
    best, *others = ranking
    fewest = min(len(one.seeds) for one in ranking)
    if not others:
        alone = f"Only {best.name} could be trained again: there is nothing to compare it with."
        return best, _event(ranking, best, alone)
    if fewest < MIN_SEEDS:
        more = max(0, MIN_SEEDS - fewest) or None
        return best, _event(ranking, best, _too_few(ranking), tie=True, more_seeds=more)
    among = len(ranking)
    against = [compare(best.figures, other.figures, among=among) for other in others]
    pairs = list(zip(others, against, strict=True))
    tied = [other for other, comparison in pairs if not comparison.distinguishable]
    chosen, taken = best, f"Taken: {best.name}."
    if wanted.prefer == "cheap":
        shown = [
            other
            for other, comparison in pairs
            if (comparison.high if sign > 0 else -comparison.low) <= wanted.margin
        ]
        chosen, taken = _cheapest(best, shown, wanted.margin)
    statement, more_seeds = f"{_standing(ranking, against, tied, on)} {taken}", None
    if tied:
        needed = seeds_to_tell(best.figures, tied[0].figures, among=among)
        more_seeds = None if needed is None else needed - fewest
        statement += f" {_way_to_tell(more_seeds)}"
    comparison = against[0]
    return chosen, _event(
        ranking, chosen, statement, tie=bool(tied), more_seeds=more_seeds,
        difference=comparison.difference, ci95=[comparison.low, comparison.high],
    )  # fmt: skip


def _cheapest(best: Confirmed, shown: Sequence[Confirmed], margin: float) -> tuple[Confirmed, str]:
    """The cheapest of the best and those shown to be as good within the margin; why, in words."""
    if best.cost is None or any(one.cost is None for one in shown):
        return best, f"Taken: {best.name}; what the others cost could not be counted."
    chosen = min([best, *shown], key=_price)
    if _price(chosen) == _price(best):
        return best, f"Taken: {best.name}; no cheaper one is shown to be within {margin:g} of it."
    (adds, parameters), (most_adds, most_parameters) = _price(chosen), _price(best)
    return chosen, (
        f"Taken: {chosen.name}, which is shown to be worse by {margin:g} at most and takes"
        f" {adds / 1e6:,.4g} million multiply-adds an example instead of {most_adds / 1e6:,.4g}"
        f" million ({parameters:,} parameters instead of {most_parameters:,})."
    )


def _price(one: Confirmed) -> tuple[int, int]:
    assert one.cost is not None
    return one.cost["multiply_adds"], one.cost["parameters"]


def _event(
    ranking: Sequence[Confirmed], chosen: Confirmed, statement: str, **more: Any
) -> dict[str, Any]:
    """The comparison as the journal holds it."""
    return {
        "examples": ranking[0].figures.shape[1],
        "chosen": chosen.name,
        "statement": statement,
        **{"tie": False, "more_seeds": None, "difference": None, "ci95": None, **more},
        "candidates": [one.as_event() for one in ranking],
    }


def _too_few(ranking: Sequence[Confirmed]) -> str:
    means = ", ".join(f"{one.name} {one.mean:.4f}" for one in ranking)
    return (
        f"Fewer than {MIN_SEEDS} seeds can't tell candidates apart ({means}). Taken:"
        f" {ranking[0].name}, which is ahead."
    )


def _standing(
    ranking: Sequence[Confirmed],
    against: Sequence[Comparison],
    tied: Sequence[Confirmed],
    on: str,
) -> str:
    """Who is ahead of whom by how much, and whether noise may explain it."""
    best, following, first = ranking[0], ranking[1], against[0]
    several = f" that holds for all {len(ranking)} at once" if len(ranking) > 2 else ""
    examples = best.figures.shape[1]
    count = f"{examples:,} " * (examples > 1)
    figures = (
        f"{best.mean:.4f} against {following.mean:.4f} on {count}{on} (difference"
        f" {first.difference:+.4f}, 95 % interval{several} {first.low:+.4f} to {first.high:+.4f})"
    )
    if not tied:
        return f"{best.name} is better than the next, {following.name}: {figures}."
    names = " and ".join(one.name for one in tied)
    if tied[0] is following:
        return f"{best.name} is ahead of {names}, and noise may explain it: {figures}."
    return (  # by more seeds or luck only a later one ties
        f"{best.name} is better than {following.name}: {figures}; it is ahead of {names} too, and"
        " noise may explain that."
    )


def _way_to_tell(more_seeds: int | None) -> str:
    if more_seeds is None:
        return "More seeds would hardly tell them apart."
    return (
        f"If the difference is what it seems, {more_seeds} more seeds each would probably tell"
        f" (--final-seeds +{more_seeds})."
    )
