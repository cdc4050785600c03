from __future__ import annotations

from pathlib import Path

from cifar_tune.record.results import Results
from cifar_tune.record.trials import Start, Trial
from cifar_tune.report.slots import slots_of


def trial(name: str, *spans: tuple[float, float]) -> Trial:
    return Trial(trial_id=name, index=0, seed=0, values={}, created=0.0, spans=dict(spans))


def search(*trials: Trial, starts: list[Start]) -> Results:
    return Results(folder=Path(), trials={one.trial_id: one for one in trials}, starts=starts)


def test_each_span_goes_to_the_first_free_slot() -> None:
    start = Start(storage="ray/1", number=1, slots=2, began=100.0, ended=110.0)
    spans = [trial("a", (101, 104)), trial("b", (101, 108)), trial("c", (105, 110))]
    slots = slots_of(search(*spans, starts=[start]))
    assert [(one.trial_id, one.slot, one.begin, one.end) for one in slots.segments] == [
        ("a", 0, 1.0, 4.0), ("b", 1, 1.0, 8.0), ("c", 0, 5.0, 10.0),
    ]  # fmt: skip
    assert [(gap.slot, gap.begin, gap.end) for gap in slots.gaps()] == [
        (0, 0.0, 1.0), (0, 4.0, 5.0), (1, 0.0, 1.0), (1, 8.0, 10.0),
    ]  # fmt: skip
    assert slots.longest_idle_seconds == 2.0
    assert slots.busy_steps() == ([0.0, 1.0, 4.0, 5.0, 8.0, 10.0], [0, 2, 1, 2, 1, 0])


def test_the_time_between_two_starts_is_left_out() -> None:
    starts = [
        Start(storage="ray/1", number=1, slots=1, began=100.0, ended=110.0),
        Start(storage="ray/2", number=2, slots=1, began=5000.0, ended=5010.0),
    ]
    slots = slots_of(search(trial("a", (100, 110), (5002, 5010)), starts=starts))
    assert [(one.begin, one.end) for one in slots.segments] == [(0.0, 10.0), (12.0, 20.0)]
    assert slots.borders == [10.0]
    assert [(gap.begin, gap.end) for gap in slots.gaps()] == [(10.0, 12.0)]


def test_long_searches_are_told_in_hours() -> None:
    start = Start(storage="ray/1", number=1, slots=1, began=0.0, ended=36000.0)
    slots = slots_of(search(trial("a", (0, 7200)), starts=[start]))
    assert (slots.unit, slots.segments[0].end) == ("hours", 2.0)


def test_a_start_without_a_trial_takes_no_time() -> None:
    slots = slots_of(search(starts=[Start(storage="ray/1", number=1, slots=4)]))
    assert (slots.segments, slots.starts) == ([], [])
