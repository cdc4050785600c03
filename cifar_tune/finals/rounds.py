"""Rounds of finals: which is held now, and which earlier trainings count in it."""

from __future__ import annotations

from dataclasses import dataclass

from cifar_tune.finals.candidates import Candidate, fitting, named_trials, pick_candidates
from cifar_tune.finals.figures import read_figures
from cifar_tune.plan.finals_config import FinalsConfig
from cifar_tune.plan.task import columns_of
from cifar_tune.record.journal import confirm_command
from cifar_tune.record.results import Results
from cifar_tune.search.session import Session


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

    def earlier(self, results: Results) -> list[Round]:
        """The rounds whose trainings count in this one, the newest first."""
        if not self.continues:
            return []
        before = recorded_round(results, self.continues)
        return [before, *before.earlier(results)]


def recorded_round(results: Results, number: int) -> Round:
    """A round that has begun."""
    began = results.finals[number]
    metric = columns_of(results.plan)[0]
    return Round(
        number=began["number"],
        candidates=[Candidate.from_event(one, metric) for one in began["candidates"]],
        seeds=began["seeds"],
        continues=began.get("continues", 0),
    )


def current_round(session: Session, seconds_left: float | None) -> Round | None:
    """The round to hold: the newest, if it is what is asked for, or else another.

    None if the time is too short for any; without a budget it takes as long as it takes.
    """
    results = session.results
    newest = recorded_round(results, max(results.finals)) if results.finals else None
    if newest is not None and _is_asked_for(results, newest):
        return newest
    asked = results.plan.finals
    size: FinalsConfig | None = asked.model_copy(update={"candidates": asked.compared})
    if seconds_left is not None:
        size = fitting(results, seconds_left, session.share.slots)
        _say_size(session, size, seconds_left)
    if size is None:
        return None
    if asked.trials and not named_trials(results):
        session.say(
            f"{', '.join(asked.trials)} can't be judged, so the best of the search are taken for"
            " the finals."
        )
    candidates = pick_candidates(results, size.candidates)
    number, continues = 1, 0
    if newest is not None:
        number = newest.number + 1
        counts = _counts(session, newest, candidates, size.seeds)
        continues = newest.number if counts else 0
    return Round(number=number, candidates=candidates, seeds=size.seeds, continues=continues)


def _is_asked_for(results: Results, newest: Round) -> bool:
    """Whether a round is of what the plan of now asks for, and of the candidates of now."""
    then, now = results.finals[newest.number]["asked"], results.plan.finals
    if type(now).model_validate(then) != now:
        return False
    return newest.candidates == pick_candidates(results, len(newest.candidates))


def _counts(session: Session, newest: Round, candidates: list[Candidate], seeds: int) -> bool:
    """Whether the trainings of the newest round count in another of these candidates."""
    if newest.candidates != candidates or newest.seeds > seeds:
        return False
    compared = session.results.confirmed.get(newest.number)
    if compared and compared["confirm"] and not read_figures(session.results, newest.number):
        session.say(
            f"What the trainings of round {newest.number} came to is not there any more, or was"
            " never kept (earlier versions): all candidates are trained anew."
        )
        return False
    return True


def _say_size(session: Session, size: FinalsConfig | None, seconds_left: float) -> None:
    wanted = session.plan.finals
    if size is not None and (size.candidates, size.seeds) == (wanted.compared, wanted.seeds):
        return
    left = f"The time budget leaves {max(0.0, seconds_left):.0f} s for the finals"
    if size is None:
        later = confirm_command(session.folder)
        session.say(f"{left}, which is too little for any; later: {later}")
    else:
        session.say(
            f"{left}: {size.candidates} of {wanted.compared} candidates, with"
            f" {size.seeds} of {wanted.seeds} seeds"
        )
