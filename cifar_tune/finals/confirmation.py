"""Compares the candidates' new trainings on images that the search never saw, and chooses one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from cifar_tune.finals.candidates import Candidate
from cifar_tune.finals.uncertainty import (
    MIN_SEEDS,
    Comparison,
    Correct,
    compare,
    standard_deviation,
)
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial

CHEAPER = 0.95  # of the cost: below it, the clock's noise does not decide between two that tie


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """A candidate's trainings: which images each got right, and what one took.

    A training that diverged got none right, as its report says; one that failed is not among them.
    """

    candidate: Candidate
    seeds: list[int]
    correct: Correct
    train_seconds: float
    diverged: int = 0
    failed: int = 0

    @property
    def mean(self) -> float:
        """Mean accuracy on the confirmation images."""
        return float(self.correct.mean())

    def as_event(self) -> dict[str, Any]:
        """As the journal holds it."""
        accuracies = [float(accuracy) for accuracy in self.correct.mean(axis=1)]
        return {
            "trial_id": self.candidate.trial_id,
            "epoch": self.candidate.epoch,
            self.candidate.metric: self.candidate.value,
            "seeds": self.seeds,
            "accuracies": accuracies,
            "mean": self.mean,
            "std": standard_deviation(accuracies),
            "train_seconds": round(self.train_seconds, 3),
            "diverged": self.diverged,
            "failed": self.failed,
        }


def gather(
    candidates: Sequence[Candidate], trainings: Results, correct: Mapping[str, Correct]
) -> list[Confirmed]:
    """Put the trainings to their candidates, who take turns; best first by mean accuracy.

    Args:
        candidates: in the order of the trainings' points.
        trainings: as `retrain` gave them.
        correct: for each completed training, by its id, which images it got right: [images].
    """
    every, count = list(trainings.trials.values()), len(candidates)
    turns = [[trial for trial in every if trial.index % count == turn] for turn in range(count)]
    confirmed = [
        _confirmed(candidate, own, correct)
        for candidate, own in zip(candidates, turns, strict=True)
        if any(trial.trial_id in correct for trial in own)
    ]
    return sorted(confirmed, key=lambda one: one.mean, reverse=True)


def _confirmed(
    candidate: Candidate, trainings: Sequence[Trial], correct: Mapping[str, Correct]
) -> Confirmed:
    completed = [trial for trial in trainings if trial.trial_id in correct]
    nothing = np.zeros_like(correct[completed[0].trial_id])
    judged = [*completed, *(trial for trial in trainings if trial.status == "diverged")]
    return Confirmed(
        candidate=candidate,
        seeds=[trial.seed for trial in judged],
        correct=np.stack([correct.get(trial.trial_id, nothing) for trial in judged]),
        train_seconds=median(trial.busy_seconds for trial in completed),
        diverged=len(judged) - len(completed),
        failed=len(trainings) - len(judged),
    )


def choose(confirmed: Sequence[Confirmed]) -> tuple[Confirmed, dict[str, Any]]:
    """Choose one: the best, or the cheapest of those that can't be told from it.

    Args:
        confirmed: at least one, best first.

    Returns:
        The chosen one, and the comparison as the journal holds it, with a sentence for people.
    """
    best, *others = confirmed
    if min(len(one.seeds) for one in confirmed) < MIN_SEEDS:
        return best, _told(confirmed, None, best, tie=len(confirmed) > 1, told=_too_few(confirmed))
    against = [compare(best.correct, other.correct) for other in others]
    tied = [
        other
        for other, comparison in zip(others, against, strict=True)
        if not comparison.distinguishable
    ]
    cheapest = min([best, *tied], key=lambda one: one.train_seconds)
    chosen = cheapest if cheapest.train_seconds < CHEAPER * best.train_seconds else best
    first = against[0] if against else None
    statement = _statement(confirmed, first, tied, chosen)
    return chosen, _told(confirmed, first, chosen, tie=bool(tied), told=statement)


def _told(
    confirmed: Sequence[Confirmed],
    first: Comparison | None,
    chosen: Confirmed,
    *,
    tie: bool,
    told: str,
) -> dict[str, Any]:
    """The comparison as the journal holds it."""
    return {
        "images": confirmed[0].correct.shape[1],
        "chosen": chosen.candidate.trial_id,
        "tie": tie,
        "statement": told,
        "difference": first.difference if first else None,
        "ci95": [first.low, first.high] if first else None,
        "candidates": [one.as_event() for one in confirmed],
    }


def _too_few(confirmed: Sequence[Confirmed]) -> str:
    best = confirmed[0]
    means = ", ".join(f"{one.candidate.trial_id} {one.mean:.4f}" for one in confirmed)
    return (
        f"Fewer than {MIN_SEEDS} seeds can't tell candidates apart ({means}). Taken:"
        f" {best.candidate.trial_id}, which is ahead."
    )


def _statement(
    confirmed: Sequence[Confirmed],
    first: Comparison | None,
    tied: Sequence[Confirmed],
    chosen: Confirmed,
) -> str:
    best, images = confirmed[0], confirmed[0].correct.shape[1]
    name = best.candidate.trial_id
    if first is None:
        return f"Only {name} could be trained again: there is nothing to compare it with."
    following = confirmed[1]
    figures = (
        f"{best.mean:.4f} against {following.mean:.4f} on {images:,} confirmation images"
        f" (difference {first.difference:+.4f}, 95 % interval {first.low:+.4f} to"
        f" {first.high:+.4f})"
    )
    if not tied:
        return f"{name} is better than the next, {following.candidate.trial_id}: {figures}."
    names = " and ".join([name, *(one.candidate.trial_id for one in tied)])
    if chosen is best:
        taken = f"{name}, which is ahead; no other is cheaper to train by 5 % or more"
    else:
        saving = 1 - chosen.train_seconds / best.train_seconds
        taken = f"{chosen.candidate.trial_id}, whose training costs {saving:.0%} less"
    if first.distinguishable:  # by more seeds or luck only a later one ties
        return f"{names} are a tie within noise. Taken: {taken}."
    return f"{names} are a tie within noise: {figures}. Taken: {taken}."
