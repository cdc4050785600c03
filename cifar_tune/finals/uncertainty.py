"""How sure a mean score is: its interval over seeds and examples, and what tells two apart."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
MIN_SEEDS = 3  # with two, the t distribution's tail is so long that the interval says nothing
POWER = 0.8  # what "would probably tell" means
MOST_SEEDS = 100  # more than anybody trains

Figures = NDArray[np.generic]
"""A figure of each example by each training, bool or float: [trainings, examples]; the score of a
training is its mean. [trainings, 1]: a score that can't be told by example."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Mean score of one configuration less another's, with its 95 % interval."""

    difference: float
    low: float
    high: float

    @property
    def distinguishable(self) -> bool:
        """Whether 0 lies outside the interval."""
        return not self.low <= 0 <= self.high


@dataclass(frozen=True, kw_only=True)
class _Trainings:
    """What trainings of one configuration differ by.

    Attributes:
        seeds: how many there are.
        variance: between their scores.
        rest: the part of it that belongs to a training and an example together.
        by_example: mean figure of each example, [examples].
    """

    seeds: int
    variance: float
    rest: float
    by_example: NDArray[np.float64]

    @property
    def between(self) -> float:
        """Variance between seeds as if the examples were endless."""
        return max(0.0, self.variance - self.rest)


def _look_at(figures: Figures) -> _Trainings:
    figures = figures.astype(float)
    seeds, examples = figures.shape
    by_seed, by_example = figures.mean(axis=1), figures.mean(axis=0)
    if examples == 1:  # a score as such, of which only the spread over seeds is known
        spread = float(by_seed.var(ddof=1))
        return _Trainings(seeds=seeds, variance=spread, rest=0.0, by_example=by_example)
    # Mean squares of the two-way layout of seeds and examples; the whole is their sum and the rest.
    seed_square = examples * float(by_seed.var(ddof=1))
    example_square = seeds * float(by_example.var(ddof=1))
    whole = seeds * examples * float(figures.var())
    rest = (whole - (seeds - 1) * seed_square - (examples - 1) * example_square) / (
        (seeds - 1) * (examples - 1)
    )
    return _Trainings(
        seeds=seeds,
        variance=seed_square / examples,
        rest=max(0.0, rest) / examples,
        by_example=by_example,
    )


def _variance(by_example: NDArray[np.float64], groups: Sequence[_Trainings]) -> tuple[float, float]:
    """Variance of a mean, or of a difference of two, over seeds and examples.

    Trainings and examples are both samples, of all seeds and of all examples there could be; what
    is left over belongs to a training and an example together, and is not counted twice (Cornfield
    and Tukey 1956: seeds / N + examples / n). The degrees of freedom are Satterthwaite's (1946).
    """
    examples = len(by_example)
    terms = [(float(by_example.var(ddof=1)) / examples, examples - 1)] if examples > 1 else []
    variance = sum(term for term, _ in terms)
    for group in groups:
        if group.between > 0:
            variance += group.between / group.seeds
            terms.append((group.variance / group.seeds, group.seeds - 1))
    spread = sum(term**2 / free for term, free in terms)
    return variance, variance**2 / spread if spread else 1.0


def interval_of_mean(figures: Figures) -> tuple[float, float] | None:
    """95 % interval for the expected score of a new training, on new examples.

    Args:
        figures: [trainings, examples] on examples that nothing was chosen by; [trainings, 1] of
            scores that are known as such.

    Returns:
        Its ends, those of parts of a whole within 0 and 1; none with fewer than `MIN_SEEDS`
        trainings, or where nothing varies: what all get right says nothing of how far that goes.
    """
    from scipy.stats import t

    if len(figures) < MIN_SEEDS:
        return None
    variance, freedom = _variance(figures.mean(axis=0), [_look_at(figures)])
    if variance <= 0:
        return None
    return _ends(figures, float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * variance**0.5)


def _ends(figures: NDArray[np.generic], half: float) -> tuple[float, float]:
    mean = float(figures.mean())
    if figures.dtype == np.bool_:
        return max(0.0, mean - half), min(1.0, mean + half)
    return mean - half, mean + half


def interval_of_model(figures: NDArray[np.generic]) -> tuple[float, float] | None:
    """95 % interval for the score of this very model on new examples; else as `interval_of_mean`.

    Args:
        figures: [examples].
    """
    from scipy.stats import t

    examples, variance = len(figures), float(figures.astype(float).var())
    if examples < 2 or variance <= 0:
        return None
    reach = float(t.ppf((1 + CONFIDENCE) / 2, examples - 1))
    return _ends(figures, reach * (variance / (examples - 1)) ** 0.5)


def compare(first: Figures, second: Figures, *, among: int = 2) -> Comparison:
    """Compare two configurations on the same examples.

    The interval is one of all pairs among so many, which hold together in 95 % of all searches,
    so that it may be of the two that came out best: Games and Howell's (1976) for unequal spreads,
    by the studentized range; two have the t distribution's. On simulated configurations of a kind
    (n = 300 each, 3 or 5 seeds, 1,000 or 5,000 examples, seeds that differ by 0.4 to 4 points)
    some pair with the best was told apart in 1 to 5 % among two, 1 to 6 % among three.

    Args:
        first, second: [trainings, examples], the same examples in the same order, of `MIN_SEEDS`
            trainings at least; [trainings, 1] of scores that are known as such (Welch's interval).
        among: how many configurations the two were picked from.
    """
    from scipy.stats import studentized_range

    one, other = _look_at(first), _look_at(second)
    difference = float(first.mean()) - float(second.mean())
    variance, freedom = _variance(one.by_example - other.by_example, [one, other])
    half = float(studentized_range.ppf(CONFIDENCE, among, freedom)) * (variance / 2) ** 0.5
    return Comparison(difference=difference, low=difference - half, high=difference + half)


def seeds_to_tell(first: Figures, second: Figures, *, among: int = 2) -> int | None:
    """With how many seeds each the two would be told apart with a probability of 80 %.

    If their difference is what it seems; none where so many as `MOST_SEEDS` would not do: what is
    left then is the noise of the examples.
    """
    from scipy.stats import norm, t

    one, other = _look_at(first), _look_at(second)
    difference = abs(float(first.mean()) - float(second.mean()))
    own = 0.0
    if first.shape[1] > 1:
        examples = float((one.by_example - other.by_example).var(ddof=1)) / first.shape[1]
        # The examples' own part stays whatever the number of seeds; the rest is averaged out.
        own = max(0.0, examples - one.rest / one.seeds - other.rest / other.seeds)
    averaged = one.between + other.between + one.rest + other.rest

    pairs = among * (among - 1) / 2

    def tells(seeds: int) -> bool:
        # Bonferroni's bound is a little above the studentized range, and needs no integral.
        reach = t.isf((1 - CONFIDENCE) / 2 / pairs, 2 * (seeds - 1)) + norm.ppf(POWER)
        return bool(difference >= reach * (averaged / seeds + own) ** 0.5)

    more = range(max(one.seeds, other.seeds) + 1, MOST_SEEDS + 1)
    fewest = bisect_left(more, True, key=tells)
    return more[fewest] if fewest < len(more) else None


def alike(figures: Sequence[Figures]) -> list[Figures]:
    """Figures that can be stacked: where one is told by score alone, all are, [..., 1]."""
    if len({one.shape[-1] for one in figures}) < 2:
        return list(figures)
    return [one.mean(axis=-1, keepdims=True, dtype=float) for one in figures]


def standard_deviation(values: Sequence[float]) -> float | None:
    """The sample's; none for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
