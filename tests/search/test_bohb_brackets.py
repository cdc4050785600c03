"""BOHB's brackets in a simulated Ray: they fill up, halve, and come to an end."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import load_plan
from cifar_tune.search.schedulers import build_scheduler


def bohb_plan(epochs: int, factor: int = 3) -> Plan:
    chosen = ["search.searcher=bohb", "search.scheduler=bohb", f"train.max_epochs={epochs}"]
    return load_plan(None, [*chosen, f"search.reduction_factor={factor}"])


class Member:
    """What a scheduler sees of one of Ray's trials, and the epochs that it ran."""

    is_saving = False

    def __init__(self, number: int) -> None:
        self.trial_id = str(number)
        self.status = "PENDING"
        self.quality = random.Random(number).random()
        self.epochs = 0


class Controller:
    """Ray's part: it starts, pauses and stops trials as the scheduler says, one epoch at a time."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.scheduler = plan, build_scheduler(plan)
        self.members: list[Member] = []
        self.paused = set[str]()
        told = SimpleNamespace(on_pause=self.paused.add, on_unpause=self.paused.discard)
        self.search_alg = SimpleNamespace(searcher=told)

    def get_trials(self) -> list[Member]:
        return self.members

    def stop_trial(self, member: Member) -> None:
        if member.status == "RUNNING":
            self.scheduler.on_trial_complete(self, member, {})
        else:
            self.scheduler.on_trial_remove(self, member)
        member.status = "TERMINATED"

    def add(self) -> Member:
        self.members.append(Member(len(self.members)))
        self.scheduler.on_trial_add(self, self.members[-1])
        return self.members[-1]

    def train(self, member: Member, *, diverged: bool = False) -> str:
        """One epoch, and what the scheduler says to it."""
        member.status = "RUNNING"
        member.epochs += 1
        accuracy = 0.0 if diverged else member.quality
        metrics = {"val_accuracy": accuracy, "epoch": member.epochs, "diverged": diverged}
        decision = str(self.scheduler.on_trial_result(self, member, metrics))
        if decision == "STOP":
            self.stop_trial(member)
        elif decision == "PAUSE":
            member.status = "PAUSED"
        return decision

    def search(self, count: int, slots: int, diverging: int = 0) -> None:
        """Run `count` trials to their end; each `diverging`-th diverges in its second epoch."""
        for _ in range(count * self.plan.train.max_epochs * 10):
            running = [member for member in self.members if member.status == "RUNNING"]
            chosen = self.scheduler.choose_trial_to_run(self) if len(running) < slots else None
            if chosen is not None:
                chosen.status = "RUNNING"
            elif len(running) < slots and len(self.members) < count:
                self.add()
            elif running:
                member = running[len(self.members) % len(running)]
                bad = diverging and int(member.trial_id) % diverging == 0 and member.epochs == 1
                self.train(member, diverged=bool(bad))
            elif all(member.status == "TERMINATED" for member in self.members):
                return
        raise AssertionError("the search does not end")

    def bracket_sizes(self) -> list[list[int]]:
        bands = self.scheduler._hyperbands
        return [[len(one._all_trials) for one in band if one is not None] for band in bands]


@pytest.mark.parametrize("slots", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 4, 12, 40])
@pytest.mark.parametrize(("epochs", "factor"), [(1, 3), (4, 2), (9, 3), (10, 3), (27, 2)])
@pytest.mark.parametrize("diverging", [0, 3])
def test_a_search_ends_and_some_trial_gets_all_its_epochs(
    slots: int, count: int, epochs: int, factor: int, diverging: int
) -> None:
    controller = Controller(bohb_plan(epochs, factor))
    controller.search(count, slots, diverging)
    assert len(controller.members) == count
    assert max(member.epochs for member in controller.members) == (
        2 if (count, diverging) == (1, 3) and epochs > 1 else epochs
    )


def test_bands_follow_one_another_and_the_losers_stop_early() -> None:
    controller = Controller(bohb_plan(9))
    controller.search(34, slots=2)
    assert controller.bracket_sizes() == [[9, 5, 3], [9, 5, 3]]
    epochs = sorted(member.epochs for member in controller.members)
    assert epochs == [1] * 12 + [3] * 10 + [9] * 12


def test_a_bracket_that_trials_have_left_takes_in_no_new_ones() -> None:
    """Ray's own takes them in for ever, and no trial is stopped early any more."""
    controller = Controller(bohb_plan(4, factor=2))
    for _ in range(24):
        assert controller.train(controller.add(), diverged=True) == "STOP"
    assert controller.bracket_sizes() == [[4, 3, 3], [4, 3, 3], [4]]


def going_on(controller: Controller) -> list[Any]:
    return [
        member for one in controller.scheduler._hyperbands[0] for member in one.trials_to_unpause
    ]


def test_the_end_of_the_last_trial_that_a_bracket_waited_for_halves_it() -> None:
    controller = Controller(bohb_plan(9))
    members = [controller.add() for _ in range(9)]
    assert [controller.train(member) for member in members[:8]] == ["PAUSE"] * 8
    controller.train(members[8], diverged=True)
    three = going_on(controller)
    assert len(three) == 3
    for member in three:
        controller.train(member)
    assert [controller.train(member) for member in three[:2]] == ["PAUSE"] * 2
    controller.train(three[2], diverged=True)
    assert len(going_on(controller)) == 1


def test_a_bracket_does_not_wait_for_a_trial_that_is_being_saved() -> None:
    """It has reported, and Ray calls it running until its checkpoint is there."""
    controller = Controller(bohb_plan(9))
    members = sorted((controller.add() for _ in range(9)), key=lambda member: member.quality)
    assert [controller.train(member) for member in members[:8]] == ["PAUSE"] * 8
    members[7].status, members[7].is_saving = "RUNNING", True
    assert controller.train(members[8]) == "CONTINUE"
    assert set(going_on(controller)) == set(members[6:8])
    assert controller.paused == {member.trial_id for member in members[:6]}


def test_a_bracket_that_is_not_full_is_not_halved_because_a_trial_has_ended() -> None:
    controller = Controller(bohb_plan(9))
    members = [controller.add() for _ in range(4)]
    assert [controller.train(member) for member in members[:3]] == ["PAUSE"] * 3
    controller.train(members[3], diverged=True)
    assert going_on(controller) == []
    assert [member.status for member in members] == ["PAUSED"] * 3 + ["TERMINATED"]
