"""The highest mean is chosen, or a cheaper one that is shown to be as good, and it is said."""

from __future__ import annotations

import numpy as np
import pytest

from cifar_tune.finals.candidates import Candidate
from cifar_tune.finals.confirmation import Confirmed, choose, gather, joined
from cifar_tune.plan.finals_config import FinalsConfig
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial

CHEAP = FinalsConfig(prefer="cheap", margin=0.02)
SMALL, LARGE = {"multiply_adds": 10**7, "parameters": 9}, {"multiply_adds": 10**8, "parameters": 9}


def candidate(name: str) -> Candidate:
    return Candidate(
        trial_id=name, epoch=3, metric="val_accuracy", value=0.9, values={"optim.lr": 0.1}
    )


def trained(
    name: str, level: float, cost: dict[str, int] | None = None, seeds: int = 5, number: int = 0
) -> Confirmed:
    """Trainings that get the same examples right, save a few each."""
    order = np.random.default_rng(99).permutation(4000)
    figures = np.repeat(order[None] < 4000 * level, seeds, axis=0)
    figures ^= np.random.default_rng(number).random(figures.shape) < 0.01
    return Confirmed(
        candidate=candidate(name), seeds=list(range(seeds)), figures=figures, train_seconds=1.0,
        cost=cost,
    )  # fmt: skip


def test_a_better_one_is_chosen_whatever_it_costs() -> None:
    for wanted in (FinalsConfig(), CHEAP):
        chosen, told = choose([trained("t0003", 0.8, SMALL), trained("t0007", 0.9, LARGE)], wanted)
        assert chosen.name == told["chosen"] == "t0007"
        assert not told["tie"]
        assert told["statement"].startswith("t0007 is better than the next, t0003: 0.89")
        assert told["ci95"][0] > 0
        assert told["more_seeds"] is None


def test_of_two_that_tie_the_one_ahead_is_chosen_and_what_would_tell_is_said() -> None:
    pair = [trained("t0003", 0.9, SMALL), trained("t0007", 0.9015, LARGE, number=1)]
    pair[0].figures[0, :150] = False  # one training went badly: seeds differ
    chosen, told = choose(pair)
    assert chosen.name == "t0007"
    assert told["tie"]
    assert told["statement"].startswith("t0007 is ahead of t0003, and noise may explain it: 0.89")
    assert "Taken: t0007." in told["statement"]
    more = told["more_seeds"]
    assert (
        f"{more} more seeds each would probably tell (--final-seeds +{more})" in told["statement"]
    )


def test_the_cheaper_of_two_is_chosen_if_it_is_asked_for_and_shown_to_be_as_good() -> None:
    pair = [trained("t0007", 0.905, LARGE), trained("t0003", 0.9, SMALL, number=1)]
    assert choose(pair)[0].name == "t0007"
    chosen, told = choose(pair, CHEAP)
    assert chosen.name == "t0003"
    assert (
        "Taken: t0003, which is shown to be worse by 0.02 at most and takes 10 million multiply-adds"
        " an example instead of 100 million (9 parameters instead of 9)." in told["statement"]
    )
    strict = FinalsConfig(prefer="cheap", margin=0.001)
    chosen, told = choose(pair, strict)
    assert chosen.name == "t0007"
    assert "no cheaper one is shown to be within 0.001 of it" in told["statement"]


def test_of_equal_multiply_adds_the_fewer_parameters_are_cheaper() -> None:
    fewer = {**LARGE, "parameters": 8}
    pair = [trained("t0007", 0.905, LARGE), trained("t0003", 0.9, fewer, number=1)]
    assert choose(pair, CHEAP)[0].name == "t0003"


def test_what_cannot_be_counted_is_not_called_cheap() -> None:
    pair = [trained("t0007", 0.905, LARGE), trained("t0003", 0.9, None, number=1)]
    chosen, told = choose(pair, CHEAP)
    assert chosen.name == "t0007"
    assert "what the others cost could not be counted" in told["statement"]


def test_with_three_the_intervals_hold_for_all_at_once() -> None:
    three = [trained(f"t000{n}", 0.9 + n / 1000, number=n) for n in (1, 2, 3)]
    for one in three:  # seeds that differ make the tie
        one.figures[0, :150] = False
    _, pair = choose(three[1:])
    _, all_three = choose(three)
    assert "95 % interval that holds for all 3 at once" in all_three["statement"]
    assert "t0003 is ahead of t0002 and t0001" in all_three["statement"]
    width = [told["ci95"][1] - told["ci95"][0] for told in (pair, all_three)]
    assert 1.1 < width[1] / width[0] < 1.4
    assert pair["difference"] == pytest.approx(all_three["difference"])


def test_a_candidate_alone_is_compared_with_nothing() -> None:
    chosen, told = choose([trained("t0007", 0.9)])
    assert chosen.name == "t0007"
    assert (told["ci95"], told["tie"]) == (None, False)
    assert (
        told["statement"]
        == "Only t0007 could be trained again: there is nothing to compare it with."
    )


def test_few_seeds_tell_nothing_apart_and_the_one_ahead_is_taken() -> None:
    """Of two of a kind with one training each, half seem to differ."""
    pair = [trained("t0007", 0.9, LARGE, seeds=2), trained("t0003", 0.5, SMALL, seeds=2)]
    chosen, told = choose(pair, CHEAP)
    assert chosen is pair[0]
    assert (told["tie"], told["ci95"], told["more_seeds"]) == (True, None, 1)
    assert told["statement"].startswith("Fewer than 3 seeds can't tell candidates apart (t0007 0.8")


def test_later_trainings_of_a_candidate_are_added_to_the_earlier_ones() -> None:
    both = joined(trained("t0007", 0.9, seeds=3), trained("t0007", 0.8, LARGE, seeds=2))
    assert (len(both.figures), both.seeds, both.cost) == (5, [0, 1, 2, 0, 1], LARGE)
    assert both.mean == pytest.approx((3 * 0.892 + 2 * 0.794) / 5, abs=0.005)


def test_a_training_that_diverged_got_nothing_right_and_one_that_failed_is_not_counted() -> None:
    results = Results(folder=None)  # type: ignore[arg-type]
    for index, status in enumerate(("completed", "diverged", "completed", "failed")):
        name = f"t{index + 1:04}"
        trial = Trial(trial_id=name, index=index, seed=index, values={}, created=0.0, status=status)
        results.trials[name] = trial
    right = {"t0001": np.array([True, True]), "t0003": np.array([True, False])}
    only = gather([candidate("a")], results, right)["a"]
    assert only.figures.tolist() == [[True, True], [True, False], [False, False]]
    assert (only.seeds, only.diverged, only.failed) == ([0, 2, 1], 1, 1)
    assert only.mean == 0.5
    floats = {name: right[name] - 3.0 for name in right}
    assert gather([candidate("a")], results, floats)["a"].figures[2].tolist() == [-3, -3]


def test_trainings_are_put_to_their_candidates_and_failed_ones_left_out() -> None:
    results = Results(folder=None)  # type: ignore[arg-type]
    for index in range(6):
        name = f"t{index + 1:04}"
        trial = Trial(trial_id=name, index=index, seed=100 + index, values={}, created=0.0)
        trial.spans[float(index)] = index + 10.0
        results.trials[name] = trial
    right = {name: np.array([True, number % 2 == 1]) for number, name in enumerate(results.trials)}
    del right["t0003"]  # the second training of the first candidate
    names = [candidate("a"), candidate("b")]
    first, second = gather(names, results, right).values()
    assert (first.name, first.seeds) == ("a", [100, 104])
    assert first.figures.tolist() == [[True, False], [True, False]]
    assert (second.name, second.seeds) == ("b", [101, 103, 105])
    assert second.as_event()["scores"] == [1, 1, 1]
    few = gather([*names, candidate("c")], results, {"t0001": right["t0001"]})
    assert list(few) == ["a"]
