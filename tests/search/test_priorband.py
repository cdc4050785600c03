"""priorband: draws near priors, near the best so far and at random, the same after a restart."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from search.remembered import InMemory

from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.space import Value
from cifar_tune.record.trials import id_of
from cifar_tune.search.priorband import PriorBand
from cifar_tune.search.suggester import build_suggester

Values = dict[str, Value]
SURE = "prior: 0.001, confidence: high"
SPACE = (
    "search.space={{optim.lr: {{loguniform: [1.0e-4, 10.0], {}}},"
    " optim.name: {{choice: [sgd, adamw], prior: adamw}},"
    " optim.momentum: {{uniform: [0.5, 0.99], when: {{optim.name: sgd}}}},"
    " model.width: {{pow2: [1, 64], prior: 8}}}}"
)


def plan_with(prior: str = SURE, *more: str) -> Plan:
    given = ["search.searcher=priorband", "train.max_epochs=9", SPACE.format(prior), *more]
    return load_plan(None, given)


class Told:
    """A search told by hand; `accuracy` judges what is suggested."""

    def __init__(self, plan: Plan, accuracy: Any = None) -> None:
        self.plan, self.accuracy = plan, accuracy or accuracy_of
        self.suggester = PriorBand(plan)
        self.memory = InMemory(plan, self.suggester.observe)
        self.memory.write("search", version=1, plan=plan.model_dump(mode="json"), data={},
                          environment={})  # fmt: skip
        self.drawn: list[Values] = []

    def again(self) -> PriorBand:
        """A fresh one, told all events, as the next start has it."""
        fresh = PriorBand(self.plan)
        for event in self.memory.events:
            fresh.observe(event, self.memory.results)
        return fresh

    def run(self, epochs: int = 9) -> Values:
        """Suggest a trial and let it run for so long."""
        index = len(self.drawn)
        values = self.suggester.suggest(index, {})
        assert values is not None
        name = {"trial_id": id_of(index)}
        self.memory.write("trial_created", **name, index=index, seed=index, values=values)
        for epoch in range(1, epochs + 1):
            metrics = {
                "epoch": epoch, "val_accuracy": self.accuracy(values), "val_loss": 1.0,
                "first_step_at": 0.0, "reported_at": 1.0,
            }  # fmt: skip
            more = {"checkpoint": None, "done": False, "diverged": False}
            self.memory.write("result", **name, metrics=metrics, **more)
        self.drawn.append(values)
        return values


def accuracy_of(values: Values) -> float:
    """Best at a rate of 1."""
    return 0.9 - 0.1 * abs(math.log10(float(values["optim.lr"])))  # type: ignore[arg-type]


def away(values: Values, rate: float) -> float:
    """How many powers of ten the rate is away."""
    return abs(math.log10(float(values["optim.lr"]) / rate))  # type: ignore[arg-type]


def test_it_is_found_by_its_name() -> None:
    assert isinstance(build_suggester(plan_with(), None), PriorBand)  # type: ignore[arg-type]


def test_a_restart_before_every_trial_changes_nothing() -> None:
    search, rng = Told(plan_with()), random.Random(1)
    for index in range(40):
        assert search.again().suggest(index, {}) == search.run(rng.choice([1, 3, 9]))


def test_half_of_the_first_draws_are_near_the_priors_and_half_at_random() -> None:
    search = Told(plan_with())
    drawn = [search.suggester.suggest(index, {}) or {} for index in range(400)]
    near = sum(away(values, 0.001) < 1.25 for values in drawn)  # two spreads; 45 % of the range
    assert 0.65 < near / 400 < 0.8
    assert 0.65 < sum(values["optim.name"] == "adamw" for values in drawn) / 400 < 0.8
    assert all(("optim.momentum" in values) is (values["optim.name"] == "sgd") for values in drawn)


def test_a_wrong_prior_is_left_for_what_was_found() -> None:
    search = Told(plan_with())
    for _ in range(60):
        search.run()
    late = search.drawn[-30:]
    near_best = sum(away(values, 1.0) < 0.7 for values in late)
    near_prior = sum(away(values, 0.001) < 0.7 for values in late)
    assert near_best > 2 * near_prior, (near_best, near_prior)


def test_what_is_fixed_stays_fixed() -> None:
    search = Told(plan_with())
    for index in range(20):
        values = search.suggester.suggest(index, {"optim.lr": 0.5})
        assert values is not None
        assert values["optim.lr"] == 0.5


@pytest.mark.parametrize("rate", [0.5, 0.001])
def test_the_plans_own_values_are_weak_priors(rate: float) -> None:
    """Half of the draws lie loosely around the value that the plan has anyway."""
    space = "search.space={optim.lr: {loguniform: [1.0e-4, 10.0]}}"
    search = Told(plan_with(SURE, f"optim.lr={rate}", space))
    drawn = [search.suggester.suggest(index, {}) or {} for index in range(600)]
    lower, upper = (sum(part) / 600 for part in zip(*(
        (away(values, rate) < 0.8, away(values, 0.005 / rate) < 0.8) for values in drawn
    ), strict=True))  # fmt: skip
    assert lower > 1.15 * upper, "as far from the range's middle, on its other side"
