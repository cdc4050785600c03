"""The first stage of the finals: the candidates are trained anew, compared, and one is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cifar_tune.errors import counted
from cifar_tune.files import at_hand, write_atomically
from cifar_tune.finals.candidates import Candidate
from cifar_tune.finals.confirmation import (
    FRESH,
    Confirmed,
    Cost,
    choose,
    gather,
    joined,
)
from cifar_tune.finals.figures import read_figures, write_figures
from cifar_tune.finals.opening import scoring
from cifar_tune.finals.retraining import Stage, model_of
from cifar_tune.finals.rounds import Round
from cifar_tune.finals.uncertainty import Figures, alike
from cifar_tune.plan.abilities import Costs
from cifar_tune.plan.forecast import compares
from cifar_tune.plan.task import task_of
from cifar_tune.record.results import Results

CHOSEN_BY = "the validation examples, by which the search chose as well"


@dataclass(frozen=True)
class Confirming(Stage):
    """The comparison of a round's candidates; what is recorded is not done twice."""

    def confirm(self, current: Round) -> Candidate | None:
        """The candidate to train for good; none if this was interrupted."""
        candidates = current.candidates
        done = self.session.results.confirmed.get(current.number)
        if done is not None:
            return next(one for one in candidates if one.trial_id == done["trial_id"])
        if len(candidates) < 2 or not compares(self.session.plan):
            return candidates[0]
        confirmed = self._trained(current)
        if confirmed is None or self.interrupted:
            return None
        chosen = self._write_confirmed(current, list(confirmed.values()))
        self.drop_checkpoints("confirm", current)
        return chosen

    def _trained(self, current: Round) -> dict[str, Confirmed] | None:
        """What became of all trainings that count, by candidate; none if this was interrupted."""
        kept = read_figures(self.session.results, current.number)
        if kept:
            return kept
        before = next(iter(current.earlier(self.session.results)), None)
        earlier = {} if before is None else self._trained(before)
        if earlier is None:
            return None
        planned = 0 if before is None else before.seeds
        fresh = self._compared(current, planned) if current.seeds > planned else {}
        if fresh is None:
            return None
        both = {name: joined(earlier[name], fresh[name]) for name in earlier.keys() & fresh.keys()}
        return {**earlier, **fresh, **both}

    def _compared(self, current: Round, planned: int) -> dict[str, Confirmed] | None:
        """The trainings that this round adds to those planned earlier."""
        candidates, fresh = current.candidates, current.seeds - planned
        names = " and ".join(one.trial_id for one in candidates)
        named = self.session.plan.finals.trials and names
        self.session.say(
            f"Finals, 1 of 2: {named or f'the best {len(candidates)}'} are trained with"
            f" {counted(fresh, 'more seed' if planned else 'fresh seed')} each and compared on"
            f" {'data that the search never saw' if self._on_fresh else CHOSEN_BY}."
        )
        points = [one.values for one in candidates] * fresh
        before = planned * len(candidates)
        trainings = self.retrain("confirm", current, points, before=before)
        if trainings is None:
            return None
        self._keep_judged(current, trainings)
        gathered = gather(candidates, trainings, self._figures(trainings), self._sign)
        return {
            name: replace(one, cost=self._cost(one.candidate)) for name, one in gathered.items()
        }

    def _keep_judged(self, current: Round, trainings: Results) -> None:
        """Keep the first model of each candidate: a final one has seen all but the test split."""
        count, folder = len(current.candidates), self.folder("confirm", current.number)
        for turn, candidate in enumerate(current.candidates):
            own = (t for t in trainings.trials.values() if t.index % count == turn)
            first = next((t for t in own if t.status == "completed"), None)
            if first is not None and self.judged(current, candidate.trial_id) is None:
                with at_hand(model_of(trainings, first)) as checkpoint:
                    path = folder / f"{candidate.trial_id}.ckpt"
                    write_atomically(path, checkpoint.read_bytes())

    def judged(self, current: Round, trial_id: str) -> Path | None:
        """A model of a candidate's configuration, trained without the confirmation examples."""
        for one in (current, *current.earlier(self.session.results)):
            path = self.folder("confirm", one.number) / f"{trial_id}.ckpt"
            if path.is_file():
                return path
        return None

    def _figures(self, trainings: Results) -> dict[str, Figures]:
        """The figures of each completed training, by its id: [examples]."""
        task, plan, figures = scoring(self.session.plan), trainings.plan, dict[str, Figures]()
        examples = task.held_out(self.session.data, "confirm", plan)
        for name, trial in trainings.trials.items():
            if trial.status == "completed":
                with at_hand(model_of(trainings, trial)) as checkpoint:
                    figures[name] = task.score(checkpoint, examples, plan)
        return dict(zip(figures, alike(list(figures.values())), strict=True))

    @property
    def _sign(self) -> int:
        plan = self.session.plan
        return 1 if scoring(plan).goal(plan).mode == "max" else -1

    @property
    def _on_fresh(self) -> bool:
        """Whether candidates are compared on examples that no trial saw."""
        return bool(self.session.data.facts["confirm"])

    def _cost(self, candidate: Candidate) -> Cost | None:
        """What a candidate costs on any machine; none where that can't be counted."""
        plan = self.session.plan
        task = task_of(plan)
        if not isinstance(task, Costs):
            return None
        try:
            return task.cost(plan.run(candidate.values, 0), self.session.data)
        except Exception as error:  # code of the user's own raises what it likes
            self.session.say(f"What {candidate.trial_id} costs can't be counted: {error}")
            return None

    def _write_confirmed(self, current: Round, confirmed: Sequence[Confirmed]) -> Candidate:
        winner = chosen = current.candidates[0]
        comparison: dict[str, Any] | None = None
        if confirmed:
            write_figures(self.session.results, current.number, confirmed)
            best, comparison = choose(
                confirmed,
                self.session.plan.finals,
                sign=self._sign,
                on=FRESH if self._on_fresh else CHOSEN_BY,
            )
            chosen = best.candidate
        else:
            self.session.say(f"No candidate could be trained again; {winner.trial_id} is taken.")
        leader = self.session.results.best()
        led = leader is not None and leader.trial_id == winner.trial_id  # not one that was named
        mean = next((one.mean for one in confirmed if led and one.candidate == winner), None)
        self.session.recorder.write(
            "confirmed",
            number=current.number,
            trial_id=chosen.trial_id,
            epoch=chosen.epoch,
            # By how much the best of many looks better than it is.
            optimism=None if mean is None else self._sign * (winner.value - mean),
            confirm=comparison,
        )
        return chosen
