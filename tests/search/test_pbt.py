"""Population based training as a function of what is recorded; no Ray process is needed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from cifar_tune.plan.load import load_plan
from cifar_tune.plan.rungs import exchange_epochs
from cifar_tune.plan.space import Value, parse_space
from cifar_tune.record.results import Results
from cifar_tune.search.pbt import (
    clones,
    due_exchange,
    explore,
    is_exchange,
    waits,
)
from cifar_tune.vision.task import VISION

SPACE = {"optim.lr": {"loguniform": [0.01, 1.0]}, "data.batch_size": {"choice": [64, 128]}}
Numbers = random.Random


def population(*accuracies: float | None, epoch: int = 2, planned: int | None = None) -> Results:
    """Members that all stand after `epoch`; none in place of an accuracy: it has not come there."""
    count = len(accuracies) if planned is None else planned
    plan = load_plan(None, [
        "search.scheduler=pbt", f"search.num_samples={count}", f"search.space={SPACE}",
        "search.perturbation_interval=2",
    ])  # fmt: skip
    results = Results(folder=Path(), plan=plan)
    for index, accuracy in enumerate(accuracies):
        name, size = f"t{index + 1:04}", 64 if index % 2 else 128
        values = {"optim.lr": 0.1 + index / 100, "data.batch_size": size}
        tell(results, "trial_created", trial_id=name, index=index, seed=index, values=values)
        for number in range(1, epoch + 1 if accuracy is not None else epoch):
            reported(results, name, number, accuracy or 0.0)
    return results


def tell(results: Results, event: str, **values: Any) -> None:
    results.apply({"seq": results.events + 1, "event": event, "time": 0.0, **values})


def reported(results: Results, name: str, epoch: int, accuracy: float) -> None:
    clock = {"first_step_at": 0.0, "reported_at": 0.0}
    metrics = {"epoch": epoch, "val_accuracy": accuracy, "val_loss": 1 - accuracy, **clock}
    fate = {"checkpoint": None, "done": False, "diverged": False}
    tell(results, "result", trial_id=name, metrics=metrics, **fate)


def ended(results: Results, name: str, status: str) -> None:
    tell(results, "trial_ended", trial_id=name, status=status, reason="")


def pairs(results: Results, epoch: int = 2) -> list[tuple[str, str]]:
    return [(clone.trial_id, clone.source) for clone in clones(results, epoch)]


def test_exchanges_lie_at_multiples_below_the_last_epoch() -> None:
    plan = load_plan(None, ["search.scheduler=pbt", "train.max_epochs=8"])
    assert tuple(exchange_epochs(plan)) == (2, 4, 6)
    assert [epoch for epoch in range(10) if is_exchange(plan, epoch)] == [2, 4, 6]
    other = load_plan(None, ["search.scheduler=asha", "train.max_epochs=8"])
    assert tuple(exchange_epochs(other)) == ()
    assert not is_exchange(other, 2)


def test_an_exchange_is_due_when_the_whole_population_has_come_so_far() -> None:
    results = population(0.1, 0.2, 0.3, None)
    assert due_exchange(results) is None
    reported(results, "t0004", 2, 0.4)
    assert due_exchange(results) == 2


def test_no_exchange_is_due_before_all_members_are_created() -> None:
    assert due_exchange(population(0.1, 0.2, 0.3, planned=4)) is None


def test_an_exchange_is_due_once() -> None:
    results = population(0.1, 0.2, 0.3, 0.4)
    tell(results, "exchanged", epoch=2, clones=[])
    assert due_exchange(results) is None
    for name in results.trials:
        reported(results, name, 3, 0.5)
        reported(results, name, 4, 0.5)
    assert due_exchange(results) == 4


@pytest.mark.parametrize("status", ["failed", "diverged", "stopped"])
def test_members_that_have_ended_are_not_waited_for(status: str) -> None:
    results = population(0.1, 0.2, 0.3, None)
    ended(results, "t0004", status)
    assert due_exchange(results) == 2


@pytest.mark.parametrize("status", ["interrupted", "pending", "running"])
def test_members_that_go_on_later_are_waited_for(status: str) -> None:
    results = population(0.1, 0.2, 0.3, None)
    ended(results, "t0004", status)
    assert due_exchange(results) is None


def test_a_population_that_has_ended_holds_no_exchange() -> None:
    results = population(0.1, 0.2)
    for name in results.trials:
        ended(results, name, "failed")
    assert due_exchange(results) is None


def test_a_member_waits_from_its_report_until_the_exchange_is_held() -> None:
    results = population(0.1, 0.2, None)
    first, _, last = results.trials.values()
    assert waits(results, first)
    assert not waits(results, last)
    tell(results, "exchanged", epoch=2, clones=[])
    assert not waits(results, first)
    reported(results, first.trial_id, 3, 0.1)
    assert not waits(results, first)


@pytest.mark.parametrize(
    ("members", "replaced"), [(1, 0), (2, 1), (3, 1), (4, 1), (5, 2), (8, 2), (9, 3), (12, 3)]
)
def test_a_quarter_rounded_up_and_at_most_half_is_replaced(members: int, replaced: int) -> None:
    exchanged = pairs(population(*(index / 100 for index in range(members))))
    names = [f"t{index + 1:04}" for index in range(members)]
    assert {loser for loser, _ in exchanged} == set(names[:replaced])
    assert {source for _, source in exchanged} <= set(names[members - replaced :])


def test_the_metric_of_the_plan_decides_and_equals_stand_by_age() -> None:
    results = population(0.5, 0.5, 0.5, 0.5)
    assert pairs(results) == [("t0004", "t0001")]
    search = results.plan.search.model_copy(update={"metric": "val_loss", "mode": "min"})
    by_loss = population(0.1, 0.5, 0.5, 0.9)
    by_loss.plan = by_loss.plan.model_copy(update={"search": search})
    assert pairs(by_loss) == [("t0001", "t0004")]


def test_members_are_ranked_by_what_they_had_at_the_exchange() -> None:
    results = population(0.1, 0.2, 0.3, 0.4)
    reported(results, "t0001", 3, 0.99)
    assert pairs(results) == [("t0001", "t0004")]


def test_ended_members_neither_give_nor_take() -> None:
    results = population(0.1, 0.2, 0.3, 0.4)
    ended(results, "t0001", "failed")
    ended(results, "t0004", "diverged")
    assert pairs(results) == [("t0002", "t0003")]


def test_an_exchange_is_the_same_however_often_and_wherever_it_is_computed() -> None:
    values = [index / 100 for index in range(12)]
    first = clones(population(*values), 2)
    random.seed(5)
    assert clones(population(*values), 2) == first
    assert len({str(clone.values) for clone in first}) == 3


def test_a_clone_takes_its_sources_values_and_changes_mutable_ones_only() -> None:
    for clone in clones(population(*(index / 100 for index in range(20))), 2):
        place = int(clone.source[1:]) - 1
        assert clone.values["data.batch_size"] == (64 if place % 2 else 128)
        assert clone.values["optim.lr"] != 0.1 + place / 100


def explored(entry: dict[str, Any], value: Value, field: str = "optim.lr") -> list[Value]:
    """What one value may become, over many draws."""
    space = parse_space({field: entry})
    return [
        explore(space, {field: value}, Numbers(seed), VISION.mutable)[field] for seed in range(400)
    ]


def test_a_number_changes_by_a_fifth_or_is_drawn_anew() -> None:
    found = explored({"loguniform": [0.001, 10.0]}, 0.5)
    assert all(isinstance(value, float) and 0.001 <= value <= 10 for value in found)
    less, more = found.count(0.4), found.count(0.6)
    assert less + more == pytest.approx(300, abs=40)
    assert less == pytest.approx(more, abs=50)


def test_a_number_stays_within_its_bounds() -> None:
    found = explored({"uniform": [0.0, 0.2]}, 0.19, "optim.label_smoothing")
    assert max(value for value in found if isinstance(value, float)) == 0.2


def test_a_value_of_zero_moves() -> None:
    found = explored({"uniform": [0.0, 0.5]}, 0.0, "optim.label_smoothing")
    assert found.count(0.0) == 0
    assert found.count(0.05) > 200
    both_ways = explored({"uniform": [-1.0, 1.0]}, 0)
    assert {0.2, -0.2} <= set(both_ways)
    whole = explored({"int": [0, 4]}, 0, "data.crop_padding")
    assert whole.count(1) > 250
    assert max(value for value in explored({"uniform": [-1.0, 0.0]}, 0.0) if value is not None) <= 0


def test_a_whole_number_stays_one_and_changes_even_where_a_fifth_is_too_little() -> None:
    found = explored({"int": [0, 8]}, 2, "data.crop_padding")
    assert {type(value) for value in found} == {int}
    assert found.count(1) > 100
    assert found.count(3) > 100
    assert found.count(2) < 40  # drawn anew
    at_the_end = explored({"int": [0, 4]}, 4, "data.crop_padding")
    assert at_the_end.count(3) > 250
    assert set(at_the_end) <= set(range(5))
    assert explored({"logint": [4, 32]}, 10, "data.cutout").count(12) > 100


def test_a_listed_value_shifts_to_a_neighbour() -> None:
    flips = {"choice": ["none", "random", "alternating"]}
    assert explored(flips, "none", "data.flip").count("random") > 290
    middle = explored(flips, "random", "data.flip")
    assert middle.count("none") > 100
    assert middle.count("alternating") > 100
    assert explored({"pow2": [4, 32]}, 32, "data.cutout").count(16) > 290
    assert set(explored({"choice": [0.1]}, 0.1)) == {0.1}


def test_conditions_are_decided_anew() -> None:
    space = parse_space(
        {
            "data.flip": {"choice": ["none", "random"]},
            "data.crop_padding": {"int": [1, 8], "when": {"data.flip": "random"}},
            "data.cutout": {"int": [1, 8], "when": {"data.flip": "none"}},
        }
    )
    before: dict[str, Value] = {"data.flip": "none", "data.cutout": 4}
    after = [explore(space, before, Numbers(seed), VISION.mutable) for seed in range(100)]
    changed = [values for values in after if values["data.flip"] == "random"]
    assert 50 < len(changed) < 100
    assert all(values.keys() == {"data.flip", "data.crop_padding"} for values in changed)
    assert len({values["data.crop_padding"] for values in changed}) > 4
    same = [values for values in after if values["data.flip"] == "none"]
    assert all(values.keys() == {"data.flip", "data.cutout"} for values in same)
