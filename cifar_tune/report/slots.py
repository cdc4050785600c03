"""Which trial ran when on which slot, worked out from the trials' spans of time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from cifar_tune.record.results import Results
from cifar_tune.record.trials import Start

UNITS = (("hours", 3600.0, 7200.0), ("minutes", 60.0, 180.0), ("seconds", 1.0, 0.0))


class Segment(NamedTuple):
    """A trial, or nothing, on a slot (from 0), from `begin` to `end` on the timeline's clock."""

    trial_id: str
    slot: int
    begin: float
    end: float


@dataclass(kw_only=True)
class Slots:
    """The timeline: starts of the driver stand one after another, without the time between.

    Attributes:
        unit, unit_seconds: of all times.
        segments: what ran.
        starts: begin, end and number of slots of each start.
    """

    unit: str
    unit_seconds: float
    segments: list[Segment] = field(default_factory=list)
    starts: list[tuple[float, float, int]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """The most slots that any start had."""
        return max((count for _, _, count in self.starts), default=0)

    @property
    def borders(self) -> list[float]:
        """Where one start ends and the next begins."""
        return [begin for begin, _, _ in self.starts[1:]]

    @property
    def longest_idle_seconds(self) -> float:
        """The longest time that a slot had nothing to train."""
        longest = max((gap.end - gap.begin for gap in self.gaps()), default=0.0)
        return longest * self.unit_seconds

    def gaps(self) -> list[Segment]:
        """The times at which a slot had nothing to train."""
        gaps = []
        for begin, end, count in self.starts:
            for slot in range(count):
                ours = [one for one in self.segments if one.slot == slot]
                spans = sorted((one.begin, one.end) for one in ours if begin <= one.begin < end)
                free = begin
                for first, last in [*spans, (end, end)]:
                    if first > free:
                        gaps.append(Segment("", slot, free, first))
                    free = max(free, last)
        return gaps

    def busy_steps(self) -> tuple[list[float], list[int]]:
        """Times, ascending, and how many slots are busy from each on."""
        changes = Counter({0.0: 0, self.starts[-1][1]: 0})
        for one in self.segments:
            changes[one.begin] += 1
            changes[one.end] -= 1
        times = sorted(changes)
        return times, list(accumulate(changes[time] for time in times))


def slots_of(results: Results) -> Slots:
    """Lay the trials' spans out over slots: each goes to the first slot that is free.

    The journal does not say on which slot a trial ran; all slots are alike.
    """
    starts = [start for start in results.starts if start.began is not None]
    total = sum(start.wall_seconds for start in starts)
    unit, seconds, _ = next(unit for unit in UNITS if total >= unit[2])
    slots = Slots(unit=unit, unit_seconds=seconds)
    offset = 0.0
    for start, spans in zip(starts, _spans_by_start(results, starts), strict=True):
        _lay_out(slots, start, spans, offset)
        offset += start.wall_seconds
    return slots


def _spans_by_start(results: Results, starts: list[Start]) -> list[list[tuple[float, float, str]]]:
    """Begin and end (Unix seconds) and trial of each span, in the start that it lies in."""
    by_start: list[list[tuple[float, float, str]]] = [[] for _ in starts]
    for trial in results.trials.values() if starts else ():
        for first, last in trial.spans.items():
            outside = [_seconds_outside(start, first) for start in starts]
            by_start[outside.index(min(outside))].append((first, last, trial.trial_id))
    return [sorted(spans) for spans in by_start]


def _seconds_outside(start: Start, moment: float) -> float:
    """How far a moment is from a start that may have had another clock; 0: it lies in it."""
    return max((start.began or 0.0) - moment, moment - (start.ended or 0.0), 0.0)


def _lay_out(
    slots: Slots, start: Start, spans: list[tuple[float, float, str]], offset: float
) -> None:
    began = start.began or 0.0

    def clock(time: float) -> float:
        # a worker's clock may differ from the driver's
        inside = min(max(time - began, 0.0), start.wall_seconds)
        return (offset + inside) / slots.unit_seconds

    free: list[float] = []
    for first, last, trial_id in spans:
        begin, end = clock(first), clock(last)
        slot = next((place for place, time in enumerate(free) if time <= begin), len(free))
        if slot == len(free):
            free.append(end)
        free[slot] = end
        slots.segments.append(Segment(trial_id, slot, begin, end))
    end = (offset + start.wall_seconds) / slots.unit_seconds
    slots.starts.append((offset / slots.unit_seconds, end, max(start.most_slots, len(free))))
