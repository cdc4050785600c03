from __future__ import annotations

from cifar_tune.record.trials import Start


def start(**more: object) -> Start:
    return Start(number=1, slots=2, storage="ray/1", began=100.0, **more)  # type: ignore[arg-type]


def test_slots_offer_their_time_as_long_as_they_are_there() -> None:
    assert Start(number=1, slots=2, storage="ray/1").offered_seconds == 0
    assert start(ended=110.0).offered_seconds == 20
    changed = start(ended=110.0, earlier_slots={104.0: 1, 106.0: 5})
    assert changed.offered_seconds == 4 * 1 + 2 * 5 + 4 * 2
    assert changed.most_slots == 5


def test_a_change_outside_the_search_counts_for_nothing() -> None:
    assert start(ended=110.0, earlier_slots={90.0: 7}).offered_seconds == 20
    assert start(ended=110.0, earlier_slots={120.0: 1}).offered_seconds == 10
