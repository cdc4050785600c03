"""Intervals hold what they promise, and comparisons tell apart what differs and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from cifar_tune.finals.uncertainty import (
    compare,
    interval_of_mean,
    seeds_to_tell,
    standard_deviation,
)


def trainings(
    seed: int, level: float, *, seeds: int = 5, images: int = 2000, seed_sd: float = 0.0
) -> np.ndarray:
    """Which images trainings get right: images differ in difficulty, the same for all seeds."""
    difficulty = np.random.default_rng(99).standard_normal(images)
    generator = np.random.default_rng(seed)
    effect = level + seed_sd * generator.standard_normal((seeds, 1)) + 1.5 * difficulty
    return effect + generator.standard_normal((seeds, images)) > 0


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_give_no_interval(seeds: int) -> None:
    assert interval_of_mean(trainings(0, 1.0, seeds=seeds)) is None


def test_where_only_seeds_differ_the_interval_is_the_t_interval_over_seeds() -> None:
    """Each training gets a random part of the images right: no image is harder than another."""
    generator = np.random.default_rng(0)
    correct = generator.random((5, 100_000)) < np.array([[0.6], [0.7], [0.75], [0.8], [0.9]])
    means = correct.mean(axis=1)
    half = t.ppf(0.975, 4) * means.std(ddof=1) / np.sqrt(5)
    low, high = interval_of_mean(correct)
    assert (low, high) == pytest.approx((means.mean() - half, means.mean() + half), abs=1e-3)


def test_where_all_trainings_agree_the_interval_is_that_of_the_images() -> None:
    correct = np.repeat(np.arange(1000)[None] < 800, 4, axis=0)
    low, high = interval_of_mean(correct)
    half = 1.962 * np.sqrt(0.8 * 0.2 / 999)
    assert (low, high) == pytest.approx((0.8 - half, 0.8 + half), abs=2e-4)


def test_an_interval_ends_within_0_and_1() -> None:
    assert interval_of_mean(np.eye(3, 4, dtype=bool))[0] == 0
    assert interval_of_mean(~np.eye(3, 4, dtype=bool))[1] == 1
    assert interval_of_mean(np.ones((3, 4), bool)) is None  # nothing varies


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """A short run of benchmarks/interval_coverage.py; 300 repeats have an error of 1.3 points."""
    generator, hits = np.random.default_rng(5), 0
    for _ in range(300):
        effect = 1.4 + 0.05 * generator.standard_normal((5, 1))
        effect = effect + 1.5 * generator.standard_normal((1, 2000))
        low, high = interval_of_mean(effect + generator.standard_normal((5, 2000)) > 0)
        hits += low <= 0.7812 <= high
    assert 0.91 < hits / 300 < 0.985


def test_two_of_a_kind_are_seldom_told_apart() -> None:
    pairs = [
        compare(
            trainings(2 * n, 1.0, seed_sd=0.1, images=300),
            trainings(2 * n + 1, 1.0, seed_sd=0.1, images=300),
        )
        for n in range(30)
    ]
    assert sum(pair.distinguishable for pair in pairs) <= 5  # 1.5 expected at 5 %


def test_a_real_difference_is_told_apart_because_images_are_paired() -> None:
    better, worse = trainings(0, 1.2), trainings(1, 1.0)
    comparison = compare(better, worse)
    assert comparison.distinguishable
    assert comparison.low < comparison.difference < comparison.high
    assert comparison.difference == pytest.approx(better.mean() - worse.mean())
    mixed = np.random.default_rng(2).permutation(worse.shape[1])
    unpaired = compare(better, worse[:, mixed])
    assert unpaired.high - unpaired.low > 1.2 * (comparison.high - comparison.low)


def by_seeds_alone(mean: float) -> np.ndarray:
    """Five trainings whose scores have a deviation of 1; all examples are alike."""
    scores = np.array([-2.0, -1, 0, 1, 2]) / np.sqrt(2.5)
    return np.repeat(mean + scores[:, None], 100, axis=1)


@pytest.mark.parametrize(("among", "quantile"), [(2, 2.306), (3, 4.041 / np.sqrt(2))])
def test_the_intervals_of_several_pairs_hold_together(among: int, quantile: float) -> None:
    """Two groups of five have 8 degrees of freedom; the quantiles are those of printed tables."""
    pair = compare(by_seeds_alone(1.0), by_seeds_alone(0.0), among=among)
    assert pair.high - pair.difference == pytest.approx(quantile * np.sqrt(2 / 5), rel=1e-3)
    assert pair.difference - pair.low == pytest.approx(pair.high - pair.difference)


def test_figures_need_not_be_right_or_wrong() -> None:
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((5, 400)) + 3 * generator.standard_normal((1, 400))
    low, high = interval_of_mean((7 + noise).astype(np.float32))
    assert low < 7 < high < 8
    assert compare(7.5 + noise, noise[::-1] + 7).difference == pytest.approx(0.5)


def test_a_difference_of_one_deviation_takes_the_seeds_that_textbooks_say() -> None:
    """17 in each group: the t test's 80 % power at 5 % (Cohen 1988)."""
    assert seeds_to_tell(by_seeds_alone(1.0), by_seeds_alone(0.0)) == 17
    assert seeds_to_tell(by_seeds_alone(0.0), by_seeds_alone(1.0), among=4) > 17


def test_where_the_examples_are_too_few_no_number_of_seeds_would_tell() -> None:
    first, second = trainings(0, 1.02, images=50), trainings(1, 1.0, images=50)
    assert seeds_to_tell(first, second) is None


def test_one_value_has_no_deviation() -> None:
    assert standard_deviation([0.5]) is None
    assert standard_deviation([0.4, 0.6]) == pytest.approx(0.1414, abs=1e-4)
