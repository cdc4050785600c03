"""Of the candidates the better one is chosen, or the cheaper of those that tie, and it is said."""

from __future__ import annotations

import numpy as np

from cifar_tune.finals.candidates import Candidate
from cifar_tune.finals.confirmation import Confirmed, choose, gather
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial


def candidate(name: str) -> Candidate:
    return Candidate(
        trial_id=name, epoch=3, metric="val_accuracy", value=0.9, values={"optim.lr": 0.1}
    )


def trained(name: str, accuracy: float, seconds: float, seed: int = 0) -> Confirmed:
    """Five trainings that get each image right with the same probability."""
    correct = np.random.default_rng(seed).random((5, 2000)) < accuracy
    return Confirmed(
        candidate=candidate(name), seeds=[1, 2, 3, 4, 5], correct=correct, train_seconds=seconds
    )


def test_a_better_one_is_chosen_though_it_costs_more() -> None:
    chosen, told = choose([trained("t0007", 0.9, 100), trained("t0003", 0.8, 10)])
    assert chosen.candidate.trial_id == told["chosen"] == "t0007"
    assert not told["tie"]
    assert told["statement"].startswith("t0007 is better than the next, t0003: 0.9")
    assert told["ci95"][0] > 0


def test_of_two_that_tie_the_cheaper_is_chosen_and_it_is_said() -> None:
    pair = [trained("t0007", 0.9, 100), trained("t0003", 0.9, 60, seed=1)]
    pair.sort(key=lambda one: -one.mean)
    chosen, told = choose(pair)
    assert chosen.candidate.trial_id == "t0003"
    assert told["tie"]
    assert (
        "t0003 are a tie within noise" in told["statement"]
        or "t0007 are a tie" in told["statement"]
    )
    if pair[0].candidate.trial_id == "t0007":
        assert "Taken: t0003, whose training costs 40% less." in told["statement"]


def test_a_few_per_cent_of_the_clock_decide_nothing() -> None:
    first = trained("t0007", 0.9, 100)
    second = Confirmed(
        candidate=candidate("t0003"), seeds=[6, 7, 8], correct=first.correct[:3], train_seconds=97
    )
    chosen, told = choose([first, second])
    assert chosen is first
    assert "no other is cheaper to train by 5 % or more" in told["statement"]


def test_a_candidate_alone_is_compared_with_nothing() -> None:
    chosen, told = choose([trained("t0007", 0.9, 100)])
    assert chosen.candidate.trial_id == "t0007"
    assert told["ci95"] is None
    assert (
        told["statement"]
        == "Only t0007 could be trained again: there is nothing to compare it with."
    )


def test_few_seeds_tell_nothing_apart_and_the_one_ahead_is_taken() -> None:
    """Of two of a kind with one training each, half seem to differ."""
    pair = [
        Confirmed(
            candidate=candidate(name), seeds=[1, 2], train_seconds=seconds,
            correct=np.random.default_rng(0).random((2, 2000)) < level,
        )
        for name, level, seconds in (("t0007", 0.9, 100), ("t0003", 0.5, 10))
    ]  # fmt: skip
    chosen, told = choose(pair)
    assert chosen is pair[0]
    assert (told["tie"], told["ci95"]) == (True, None)
    assert told["statement"].startswith("Fewer than 3 seeds can't tell candidates apart (t0007 0.9")


def test_a_training_that_diverged_got_nothing_right_and_one_that_failed_is_not_counted() -> None:
    results = Results(folder=None)  # type: ignore[arg-type]
    for index, status in enumerate(("completed", "diverged", "completed", "failed")):
        name = f"t{index + 1:04}"
        trial = Trial(trial_id=name, index=index, seed=index, values={}, created=0.0, status=status)
        results.trials[name] = trial
    right = {"t0001": np.array([True, True]), "t0003": np.array([True, False])}
    (only,) = gather([candidate("a")], results, right)
    assert only.correct.tolist() == [[True, True], [True, False], [False, False]]
    assert (only.seeds, only.diverged, only.failed) == ([0, 2, 1], 1, 1)
    assert only.mean == 0.5


def test_trainings_are_put_to_their_candidates_and_failed_ones_left_out() -> None:
    results = Results(folder=None)  # type: ignore[arg-type]
    for index in range(6):
        name = f"t{index + 1:04}"
        trial = Trial(trial_id=name, index=index, seed=100 + index, values={}, created=0.0)
        trial.spans[float(index)] = index + 10.0
        results.trials[name] = trial
    right = {name: np.array([True, number % 2 == 1]) for number, name in enumerate(results.trials)}
    del right["t0003"]  # the second training of the first candidate
    best, other = gather([candidate("a"), candidate("b")], results, right)
    assert (best.candidate.trial_id, best.seeds) == ("b", [101, 103, 105])
    assert (other.candidate.trial_id, other.seeds) == ("a", [100, 104])
    assert other.correct.tolist() == [[True, False], [True, False]]
    assert best.as_event()["accuracies"] == [1, 1, 1]
    assert (
        gather(
            [candidate("a"), candidate("b"), candidate("c")], results, {"t0001": right["t0001"]}
        )[0].mean
        == 0.5
    )
