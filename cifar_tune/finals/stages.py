"""The finals from one recorded step to the next: candidates, confirmation, final models, test."""

from __future__ import annotations

from dataclasses import dataclass

from cifar_tune.errors import ResultsError, counted
from cifar_tune.files import BEST, WINNER
from cifar_tune.finals.candidates import Candidate
from cifar_tune.finals.confirming import Confirming
from cifar_tune.finals.models import Model, keep_models, model_to_hand_over
from cifar_tune.finals.opening import closed, handed_in, look_at, score_models, scored_as_asked
from cifar_tune.finals.rounds import Round, current_round, recorded_round
from cifar_tune.plan.abilities import Exports, score_name
from cifar_tune.plan.config import Plan
from cifar_tune.plan.task import task_of
from cifar_tune.record.journal import Event
from cifar_tune.record.tables import model_in_words

Trained = tuple[list[Model], dict[str, int]]
"""Final models, and the number of those that diverged or failed."""


@dataclass(frozen=True)
class Finals(Confirming):
    """The finals of one search; each step is in its journal, and none is done twice.

    Attributes:
        asked: whether the user asked for these finals, rather than for a search.
        again: whether the user asked for another look at the test split.
    """

    asked: bool = False
    again: bool = False

    def run(self, seconds_left: float | None) -> None:
        """Go through all steps that are not done yet; without a budget as long as it takes.

        Raises:
            CifarTuneError: a journal can't be written, data or a checkpoint is damaged, a model is
                gone, or these finals were asked for and the test split was opened for others.
        """
        self._hold(seconds_left)
        self._hand_over()

    def _hold(self, seconds_left: float | None) -> None:
        current, results = current_round(self.session, seconds_left), self.session.results
        if current is None:
            return
        look = look_at(results, {"number": current.number}, again=self.again)
        if look == "done" or (look == "closed" and self._stands(current)):
            return
        # A comparison that goes on needs no look at the test split.
        if look == "closed" and not (self.asked and current.continues):
            if self.asked:
                raise ResultsError(closed(results))
            self.session.say(closed(results))
            return
        self._begin(current)
        chosen = self.confirm(current)
        if chosen is None:
            return
        if look != "closed":
            self._score(current, chosen)
        elif self._stands(current):
            name = chosen.trial_id
            self.session.say(f"{name} stays the one that is taken, and its test score stands.")
        else:
            self.session.say(closed(results))

    def _stands(self, current: Round) -> bool:
        """Whether the test score that is there is that of what this round chose and asks for."""
        results = self.session.results
        opened, chosen = results.test_opened, results.confirmed.get(current.number)
        if opened is None or chosen is None:
            return False
        same = all(opened[key] == chosen[key] for key in ("trial_id", "epoch"))
        return same and scored_as_asked(self.session.plan, opened)

    def _begin(self, current: Round) -> None:
        if current.number not in self.session.results.finals:
            self.session.recorder.write(
                "finals_began",
                number=current.number,
                asked=self.session.plan.finals.model_dump(),
                candidates=[candidate.as_event() for candidate in current.candidates],
                seeds=current.seeds,
                continues=current.continues,
            )

    def _score(self, current: Round, chosen: Candidate) -> None:
        """Train the final models unless the test split was opened for them, and score them."""
        subject = {"number": current.number, "trial_id": chosen.trial_id, "epoch": chosen.epoch}
        opened = self.session.results.test_opened
        if opened is not None and opened.get("number") == current.number:
            models, lost, handed = opened["models"], opened["lost"], handed_in(opened)
        else:
            trained = self._train_for_good(current, chosen)
            if trained is None:
                return
            models, lost = trained
            if not models:
                self.session.say("No final training was completed, so the test split stays closed.")
                return
            handed = model_to_hand_over(self.session, models)
        if not self.interrupted:
            score_models(self.session, subject, models, handed, lost=lost, again=self.again)
            self.drop_checkpoints("final", current)

    def _train_for_good(self, current: Round, chosen: Candidate) -> Trained | None:
        """The final models and how many were lost; none if this was interrupted."""
        done, lost, planned = self._trained_for_good(current, chosen)
        fresh = current.seeds - planned
        if not fresh:
            return done, lost
        self.session.say(
            f"Finals, 2 of 2: {chosen.trial_id}'s configuration is trained with"
            f" {counted(fresh, 'more seed' if planned else 'fresh seed')} on all training data;"
            " then the test split is opened."
        )
        trainings = self.retrain("final", current, [chosen.values] * fresh, before=planned)
        if trainings is None:
            return None
        counts = trainings.counts()
        models = keep_models(self.session.folder, trainings, done, first=planned + 1)
        return models, {kind: lost.get(kind, 0) + counts[kind] for kind in ("diverged", "failed")}

    def _trained_for_good(
        self, current: Round, chosen: Candidate
    ) -> tuple[list[Model], dict[str, int], int]:
        """The final models of earlier rounds that count, those lost, and the seeds planned then."""
        results = self.session.results
        opened = results.test_opened
        if opened is not None:
            same = (opened["trial_id"], opened["epoch"]) == (chosen.trial_id, chosen.epoch)
            for before in current.earlier(results):
                if same and before.number == opened.get("number"):
                    return opened["models"], opened["lost"], before.seeds
        return [], {}, 0

    def _hand_over(self) -> None:
        """Let `best/` hold what was scored; a crash on the way leaves this to the next start."""
        results, task = self.session.results, task_of(self.session.plan)
        opened, scored, handed = results.test_opened, results.test_scored, results.handed_over
        if opened is None or scored is None or results.test_pending or self.interrupted:
            return
        if not scored.get("number") or not isinstance(task, Exports):
            return
        model = scored.get("model") or _first_scored(self.session.plan, opened, scored)
        judged = self.judged(recorded_round(results, scored["number"]), scored["trial_id"])
        if not task.hand_over(results, self.session.data, model, judged, self.session.say):
            return
        if handed is None or handed["seq"] < scored["seq"]:
            self.session.recorder.write("handed_over", number=scored["number"], model=model)
            self.session.say(
                f"{BEST}/ holds {model_in_words(model, scored)}; {WINNER}/ holds the winner of"
                " the search."
            )


def _first_scored(plan: Plan, opened: Event, scored: Event) -> Model:
    """Of a search of an earlier version, the first of the final models."""
    model, scores = handed_in(opened), scored[f"test_{score_name(plan)}"]
    return {**model, "score": scores[0], "ci95": None}
