"""How much accuracy the choice of the finals gives away, by the program's own rule and by others.

    python benchmarks/choice_regret.py [--searches 300] [--seeds 3 5] [--images 1000 5000]

Simulated, so that the truth is known: each search has three candidates whose true accuracies are
drawn with a deviation of one point around 90 % (`--levels`) and have nothing to do with what they
cost; the trainings of one differ by half a point (`--spreads`), and images differ in difficulty,
the same for all trainings, so that mistakes are alike. The regret of a choice is the
accuracy of the truly best candidate less that of the chosen one, in points: its mean and its 95th
percentile over all searches.

    best    the program's rule: the highest mean
    cheap   finals.prefer: cheap with finals.margin: 0.005, if the interval shows it
    old     what the program once did: of all that a paired bootstrap can't tell from the
            best, the cheapest by the clock
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from cifar_tune.finals.candidates import Candidate
from cifar_tune.finals.confirmation import Confirmed, choose
from cifar_tune.plan.finals_config import FinalsConfig

CANDIDATES, LEVEL = 3, 0.9
IMAGE_SD = 1.5  # in units of the noise left over: two trainings agree on most of their mistakes
RESAMPLES, CHEAPER = 1000, 0.95  # of the old rule

Rule = Callable[[Sequence[Confirmed]], Confirmed]


def old_rule(confirmed: Sequence[Confirmed]) -> Confirmed:
    """The cheapest by the clock of all that tie with the best, whatever that may cost."""
    best, *others = sorted(confirmed, key=lambda one: one.mean, reverse=True)
    tied = [other for other in others if _ties(best.figures, other.figures)]
    cheapest = min([best, *tied], key=lambda one: one.train_seconds)
    return cheapest if cheapest.train_seconds < CHEAPER * best.train_seconds else best


def _ties(first: NDArray[np.generic], second: NDArray[np.generic]) -> bool:
    generator, images = np.random.default_rng(0), first.shape[1]
    weights = generator.multinomial(images, [1 / images] * images, size=RESAMPLES)
    scores = []
    for figures in (first, second):
        by_training = weights.astype(np.float32) @ figures.T.astype(np.float32) / images
        chosen = generator.integers(len(figures), size=(RESAMPLES, max(1, len(figures) - 1)))
        scores.append(np.take_along_axis(by_training, chosen, axis=1).mean(axis=1))
    low, high = np.quantile(scores[0] - scores[1], [0.025, 0.975])
    return bool(low <= 0 <= high)


RULES: dict[str, Rule] = {
    "best": lambda confirmed: choose(confirmed)[0],
    "cheap": lambda confirmed: choose(confirmed, FinalsConfig(prefer="cheap"))[0],
    "old": old_rule,
}


def search(
    generator: np.random.Generator, seeds: int, images: int, level_sd: float, seed_sd: float
) -> tuple[list[Confirmed], NDArray[np.float64]]:
    """Three candidates with their trainings, and their true accuracies.

    Args:
        generator: of everything that is drawn.
        seeds, images: of the comparison.
        level_sd, seed_sd: deviation of the accuracy between candidates and between seeds, from 0 to
            1.
    """
    truth = LEVEL + level_sd * generator.standard_normal(CANDIDATES)
    difficulty = IMAGE_SD * generator.standard_normal(images)
    confirmed = []
    for number, level in enumerate(truth):
        # A training gets an image right with the probability Phi(effect - difficulty), of which
        # the mean over images is its accuracy.
        accuracy = np.clip(level + seed_sd * generator.standard_normal((seeds, 1)), 0.001, 0.999)
        chance = ndtr(ndtri(accuracy) * np.sqrt(1 + IMAGE_SD**2) - difficulty)
        confirmed.append(_candidate(number, generator.random((seeds, images)) < chance, generator))
    return confirmed, truth


def _candidate(
    number: int, figures: NDArray[np.bool_], generator: np.random.Generator
) -> Confirmed:
    cost = float(generator.uniform(0.5, 2.0))
    return Confirmed(
        candidate=Candidate(
            trial_id=f"t{number:04}", epoch=1, metric="val_accuracy", value=0.0, values={}
        ),
        seeds=list(range(len(figures))),
        figures=figures,
        train_seconds=100 * cost,
        cost={"multiply_adds": int(1e7 * cost), "parameters": int(1e5 * cost)},
    )


def regrets(
    searches: int, seeds: int, images: int, level_sd: float, seed_sd: float
) -> dict[str, NDArray[np.float64]]:
    """The regret of each rule in each search, in points."""
    generator = np.random.default_rng([seeds, images])
    found: dict[str, list[float]] = {name: [] for name in RULES}
    for _ in range(searches):
        confirmed, truth = search(generator, seeds, images, level_sd, seed_sd)
        for name, rule in RULES.items():
            chosen = int(rule(confirmed).candidate.trial_id[1:])
            found[name].append(100 * float(truth.max() - truth[chosen]))
    return {name: np.array(values) for name, values in found.items()}


def main() -> None:
    """Run all settings and print a table, and the same as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--searches", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--levels", type=float, nargs="+", default=[1.0], help="in points")
    parser.add_argument("--spreads", type=float, nargs="+", default=[0.5], help="in points")
    given = parser.parse_args()
    print(f"{given.searches} searches; regret in points: mean (95th percentile)")
    print("seeds  images  levels  spread  " + "  ".join(f"{name:>14}" for name in RULES))
    rows = []
    for seeds, images, level, spread in product(
        given.seeds, given.images, given.levels, given.spreads
    ):
        found = regrets(given.searches, seeds, images, level / 100, spread / 100)
        row = {name: (values.mean(), np.quantile(values, 0.95)) for name, values in found.items()}
        cells = "  ".join(f"{mean:7.2f} ({most:.2f})" for mean, most in row.values())
        print(f"{seeds:5}  {images:6,}  {level:6.2f}  {spread:6.2f}  {cells}", flush=True)
        rows.append({"seeds": seeds, "images": images, "level": level, "spread": spread, **row})
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
