"""Rounds of finals: which is held now, and which earlier trainings count in it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from cifar_tune.finals.candidates import Candidate, fitting, pick_candidates
from cifar_tune.finals.figures import read_figures
from cifar_tune.plan.config import FinalsConfig
from cifar_tune.plan.task import Say, columns_of
from cifar_tune.record.journal import Event
from cifar_tune.record.results import Results

SIZE = ("candidates", "seeds")
CHOICE = ("prefer", "margin")


@dataclass(frozen=True, kw_only=True)
class Round:
    """One holding of the finals; a search gets another when its best change, or is asked for one.

    Attributes:
        number: from 1.
        candidates: best first.
        seeds: of each candidate, and of the final trainings, all in all.
        continues: the round whose trainings count in this one; 0: none's.
    """

    number: int
    candidates: list[Candidate]
    seeds: int
    continues: int = 0

    @classmethod
    def recorded(cls, began: Event, results: Results) -> Round:
        """The round that an event of the journal began."""
        metric = columns_of(results.plan)[0]
        return cls(
            number=began["number"],
            candidates=[Candidate.from_event(one, metric) for one in began["candidates"]],
            seeds=began["seeds"],
            continues=began.get("continues", 0),
        )

    def earlier(self, results: Results) -> list[Round]:
        """The rounds whose trainings count in this one, the newest first."""
        if not self.continues:
            return []
        before = Round.recorded(results.finals[self.continues], results)
        return [before, *before.earlier(results)]


def begun(results: Results) -> Round | None:
    """The newest round, if it is what is asked for, and of the candidates of now."""
    newest = _newest(results)
    if newest is None or not _asked_alike(results, (*SIZE, *CHOICE)):
        return None
    same = newest.candidates == pick_candidates(results, len(newest.candidates))
    return newest if same else None


def next_round(results: Results, slots: int, seconds_left: float | None, say: Say) -> Round | None:
    """The round to hold now; none if the time is too short for any.

    Args:
        results: of the search.
        slots: trainings at once.
        seconds_left: of a time budget; none: as long as it takes.
        say: is told what is given up for the time, and what can't be counted.
    """
    size: FinalsConfig | None = results.plan.finals
    if seconds_left is not None:
        size = fitting(results, seconds_left, slots)
        _say_size(results, size, seconds_left, say)
    if size is None:
        return None
    candidates = pick_candidates(results, size.candidates)
    return Round(
        number=max(results.finals, default=0) + 1,
        candidates=candidates,
        seeds=size.seeds,
        continues=_counting(results, candidates, size.seeds, say),
    )


def _counting(results: Results, candidates: list[Candidate], seeds: int, say: Say) -> int:
    """The number of the round whose trainings count in a new one."""
    newest = _newest(results)
    if newest is None or newest.candidates != candidates or newest.seeds > seeds:
        return 0
    compared = results.confirmed.get(newest.number)
    if compared and compared["confirm"] and not read_figures(results, newest.number):
        say(
            f"What the trainings of round {newest.number} came to is not there any more, or was"
            " never kept (earlier versions): all candidates are trained anew."
        )
        return 0
    return newest.number


def _newest(results: Results) -> Round | None:
    began = next(reversed(results.finals.values()), None)
    return None if began is None else Round.recorded(began, results)


def _asked_alike(results: Results, keys: tuple[str, ...]) -> bool:
    """Whether the newest round was asked for as the plan of now asks."""
    then: dict[str, Any] = next(reversed(results.finals.values()))["asked"]
    now, defaults = results.plan.finals, FinalsConfig.model_fields
    return all(then.get(key, defaults[key].default) == getattr(now, key) for key in keys)


def _say_size(results: Results, size: FinalsConfig | None, seconds_left: float, say: Say) -> None:
    wanted = results.plan.finals
    if size == wanted:
        return
    left = f"The time budget leaves {max(0.0, seconds_left):.0f} s for the finals"
    if size is None:
        folder = shlex.quote(str(results.folder))
        say(f"{left}, which is too little for any; later: cifar-tune confirm {folder}")
    else:
        say(
            f"{left}: {size.candidates} of {wanted.candidates} candidates, with"
            f" {size.seeds} of {wanted.seeds} seeds"
        )
