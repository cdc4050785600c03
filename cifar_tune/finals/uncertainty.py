"""How sure an accuracy is: its interval over seeds and images, and what tells two apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
MIN_SEEDS = 3  # with two, the t distribution's tail is so long that the interval says nothing
RESAMPLES = 4000  # the bootstrap's ends are then sure to about a hundredth of their distance

Correct = NDArray[np.bool_]
"""Which images each training got right: [trainings, images]."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Mean accuracy of one configuration less another's, with its 95 % interval."""

    difference: float
    low: float
    high: float

    @property
    def distinguishable(self) -> bool:
        """Whether 0 lies outside the interval."""
        return not self.low <= 0 <= self.high


def accuracy_interval(correct: Correct) -> tuple[float, float] | None:
    """95 % interval for the expected accuracy of a new training, on new images.

    Trainings and images are both samples, of all seeds and of all images there could be; what is
    left over belongs to a training and an image together. The variance of the mean comes from the
    mean squares of that two-way layout (Cornfield and Tukey 1956: seeds / N + images / n, without
    counting the rest twice), the t distribution's degrees of freedom from Satterthwaite (1946).

    Args:
        correct: [trainings, images] on images that nothing was chosen by.

    Returns:
        Its ends, within 0 and 1; none with fewer than `MIN_SEEDS` trainings, or where nothing
        varies: what all get right says nothing of how far that goes.
    """
    from scipy.stats import t

    seeds, images = correct.shape
    if seeds < MIN_SEEDS:
        return None
    by_seed, by_image = correct.mean(axis=1), correct.mean(axis=0)
    mean = float(by_seed.mean())
    cells = seeds * images
    seed_square = images * float(by_seed.var(ddof=1))
    image_square = seeds * float(by_image.var(ddof=1))
    # The whole sum of squares of zeros and ones is known from their mean.
    whole = cells * mean * (1 - mean)
    freedom = (seeds - 1), (images - 1), (seeds - 1) * (images - 1)
    rest_square = (whole - freedom[0] * seed_square - freedom[1] * image_square) / freedom[2]
    between_seeds = max(0.0, seed_square - rest_square)
    variance = (between_seeds + image_square) / cells
    if variance <= 0:
        return None
    squares = (seed_square if between_seeds else 0.0), image_square, rest_square
    spread = sum(
        (square / cells) ** 2 / free for square, free in zip(squares, freedom, strict=True)
    )
    half = float(t.ppf((1 + CONFIDENCE) / 2, variance**2 / spread)) * variance**0.5
    return max(0.0, mean - half), min(1.0, mean + half)


def compare(first: Correct, second: Correct, seed: int = 0) -> Comparison:
    """Compare two configurations on the same images by a paired bootstrap.

    Images are resampled for both at once (paired), trainings of each on its own. Of N trainings
    N - 1 are drawn: their mean then varies as much as that of N independent trainings, while N
    draws would vary (N - 1) / N as much, which at five seeds makes intervals 11 % too short.

    Args:
        first, second: [trainings, images], the same images in the same order; `MIN_SEEDS`
            trainings at least, or the spread between them is as good as unknown (with one each,
            two of a kind were told apart in half of 400 simulated pairs).
        seed: of the resampling.
    """
    generator = np.random.default_rng(seed)
    differences = np.concatenate(
        [_resampled(first, second, generator, 250) for _ in range(RESAMPLES // 250)]
    )
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    observed = float(first.mean()) - float(second.mean())
    return Comparison(difference=observed, low=float(low), high=float(high))


def _resampled(
    first: Correct, second: Correct, generator: np.random.Generator, count: int
) -> NDArray[np.float64]:
    images = first.shape[1]
    # A resample of images is a weight for each: how often it was drawn.
    weights = generator.multinomial(images, [1 / images] * images, size=count)  # [count, images]
    weighted = weights.astype(np.float32) / images
    means = []
    for correct in (first, second):
        scores = weighted @ correct.T.astype(np.float32)  # [count, trainings]
        draws = max(1, len(correct) - 1)
        chosen = generator.integers(len(correct), size=(count, draws))
        means.append(np.take_along_axis(scores, chosen, axis=1).mean(axis=1))
    difference: NDArray[np.float64] = means[0].astype(float) - means[1].astype(float)
    return difference


def standard_deviation(values: Sequence[float]) -> float | None:
    """The sample's; none for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
