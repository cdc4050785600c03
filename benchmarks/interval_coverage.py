"""How often the finals' 95 % interval holds the truth, on simulated searches with known noise.

    python benchmarks/interval_coverage.py [--repeats 2000] [--seeds 5] [--images 10000]

A search tries 16 configurations, each of its own level, and takes the one whose single training is
best on validation images. A training with seed effect a gets an image of difficulty b right with
the probability Phi(level + a + b): both are drawn anew for the finals of each search, and the truth
(the expected accuracy of a new training on a new image) is Phi(level / sqrt(1 + var a + var b)).
The share of the variance that lies between images sets how alike the mistakes of two trainings are.
Prints the coverage with its own standard error, also of the two formulas that one would write down
first, and by how much the winner's validation accuracy is above its truth.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import t

from cifar_tune.finals.uncertainty import CONFIDENCE, interval_of_mean

LEVEL, LEVEL_SD = 1.4, 0.1  # of the configurations, in units of the noise left over
CONFIGURATIONS, VALIDATION_IMAGES = 16, 5000
IMAGE_SD = 1.5  # two trainings then agree on most of their mistakes, as real ones do
# Standard deviation of the accuracy between seeds, roughly: 0, 0.1, 0.3, 1 and 3 points.
SEED_SDS = (0.0, 0.008, 0.025, 0.08, 0.25)

Interval = Callable[[NDArray[np.bool_]], tuple[float, float] | None]


def seeds_only(correct: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean and t interval over seeds: what most papers print."""
    means = correct.mean(axis=1)
    half = t.ppf((1 + CONFIDENCE) / 2, len(means) - 1) * means.std(ddof=1) / math.sqrt(len(means))
    return means.mean() - half, means.mean() + half


def added(correct: NDArray[np.bool_]) -> tuple[float, float]:
    """Seed variance / N plus p (1 - p) / n, with the normal distribution."""
    means = correct.mean(axis=1)
    p = means.mean()
    half = 1.96 * math.sqrt(means.var(ddof=1) / len(means) + p * (1 - p) / correct.shape[1])
    return p - half, p + half


METHODS: dict[str, Interval] = {
    "ours": interval_of_mean,
    "seeds only": seeds_only,
    "p(1-p)/n added": added,
}


def truth_of(levels: NDArray[np.float64], seed_sd: float) -> NDArray[np.float64]:
    """Expected accuracy of a new training on a new image."""
    truth: NDArray[np.float64] = ndtr(levels / math.sqrt(1 + seed_sd**2 + IMAGE_SD**2))
    return truth


def search(generator: np.random.Generator, seed_sd: float) -> tuple[float, float]:
    """The winner's level and its validation accuracy."""
    levels = LEVEL + LEVEL_SD * generator.standard_normal(CONFIGURATIONS)
    trained = levels + seed_sd * generator.standard_normal(CONFIGURATIONS)
    scores = generator.binomial(VALIDATION_IMAGES, truth_of(trained, 0.0)) / VALIDATION_IMAGES
    winner = int(scores.argmax())
    return float(levels[winner]), float(scores[winner])


def simulate(
    generator: np.random.Generator, level: float, seeds: int, images: int, seed_sd: float
) -> NDArray[np.bool_]:
    """Which images each training gets right, [seeds, images]."""
    effect = level + seed_sd * generator.standard_normal((seeds, 1), np.float32)
    effect = effect + IMAGE_SD * generator.standard_normal((1, images), np.float32)
    return effect + generator.standard_normal((seeds, images), np.float32) > 0


def measure(
    arguments: argparse.Namespace, seed_sd: float, generator: np.random.Generator
) -> dict[str, Any]:
    """Coverage and mean width of each method over all repeats; accuracies as fractions."""
    n = arguments.repeats
    hits, widths = dict.fromkeys(METHODS, 0), dict.fromkeys(METHODS, 0.0)
    spread = optimism = 0.0
    for _ in range(n):
        level, validation = search(generator, seed_sd)
        truth = float(truth_of(np.array(level), seed_sd))
        optimism += validation - truth
        correct = simulate(generator, level, arguments.seeds, arguments.images, seed_sd)
        spread += float(correct.mean(axis=1).std(ddof=1))
        for name, interval in METHODS.items():
            ends = interval(correct)
            assert ends is not None
            hits[name] += ends[0] <= truth <= ends[1]
            widths[name] += ends[1] - ends[0]
    methods = {
        name: {"coverage": hits[name] / n, "mean_width": widths[name] / n} for name in METHODS
    }
    return {"seed_spread": spread / n, "optimism": optimism / n, **methods}


def main() -> None:
    """Run all settings and print a table, and the same as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=10_000)
    arguments = parser.parse_args()
    print(f"{arguments.repeats} repeats, {arguments.seeds} seeds, {arguments.images} images")
    print(f"{'seed sd':>8}  {'optimism':>8}  " + "  ".join(f"{name:>22}" for name in METHODS))
    rows = []
    for number, seed_sd in enumerate(SEED_SDS):
        row = measure(arguments, seed_sd, np.random.default_rng([number, arguments.seeds]))
        cells = "  ".join(
            f"{100 * row[name]['coverage']:8.1f} % ({100 * row[name]['mean_width']:5.2f} wide)"
            for name in METHODS
        )
        print(f"{100 * row['seed_spread']:7.2f}%  {100 * row['optimism']:+7.2f}  {cells}")
        rows.append({"seed_sd": seed_sd, **row})
    error = math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / arguments.repeats)
    print(f"standard error of a coverage of 95 %: {100 * error:.1f} points")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
