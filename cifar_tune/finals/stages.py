"""The finals from one recorded step to the next: candidates, confirmation, final models, test."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_tune.errors import ResultsError
from cifar_tune.files import FINALS, at_hand
from cifar_tune.finals.candidates import Candidate, fitting, pick_candidates
from cifar_tune.finals.confirmation import Confirmed, choose, gather
from cifar_tune.finals.models import keep_models
from cifar_tune.finals.opening import closed, look_at, score_models, scoring
from cifar_tune.finals.retraining import Workplace, newest_checkpoint, retrain, retraining_plan
from cifar_tune.plan.config import FinalsConfig
from cifar_tune.plan.forecast import compares
from cifar_tune.plan.task import Data, Say, columns_of
from cifar_tune.record.results import Recorder, Results
from cifar_tune.search.checkpoints import drop_all
from cifar_tune.search.stop import StopRequest

SIZE = ("candidates", "seeds")


@dataclass(frozen=True, kw_only=True)
class Round:
    """One holding of the finals; a search gets another when its best change, or is asked for one.

    `number` counts from 1; `seeds` is for each candidate, and for the final trainings.
    """

    number: int
    candidates: list[Candidate]
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Finals:
    """The finals of one search; each step is in its journal, and none is done twice.

    Attributes:
        recorder: of the search, which has a winner with a checkpoint.
        data: as the task opened it.
        place: where trainings run.
        stop: gets the signal that interrupts the finals.
        say: shows a line.
        asked: whether the user asked for these finals, rather than for a search.
        again: whether the user asked for another look at the test split.
    """

    recorder: Recorder
    data: Data
    place: Workplace
    stop: StopRequest
    say: Say
    asked: bool = False
    again: bool = False

    def run(self, seconds_left: float | None) -> None:
        """Go through all steps that are not done yet.

        Args:
            seconds_left: of a time budget; none: as long as it takes.

        Raises:
            CifarTuneError: a journal can't be written, data or a checkpoint is damaged, a model is
                gone, or these finals were asked for and the test split was opened for others.
        """
        current = self._begun() or self._next(seconds_left)
        if current is None:
            return
        look = look_at(self._results, {"number": current.number}, again=self.again)
        if look == "closed":
            if self.asked:
                raise ResultsError(closed(self._results))
            self.say(closed(self._results))
        elif look != "done":
            self._begin(current)
            chosen = self._confirm(current)
            if chosen is not None:
                self._score(current, chosen)

    @property
    def _results(self) -> Results:
        return self.recorder.results

    @property
    def _interrupted(self) -> bool:
        """Whether a signal came; what else stops a search is no reason to stop its finals."""
        return self.stop.signal is not None

    def _asked_for(self) -> dict[str, Any]:
        return self._results.plan.finals.model_dump()

    def _begun(self) -> Round | None:
        """The newest round, if it is of this size and of the candidates of now."""
        results, asked = self._results, self._asked_for()
        began = next(reversed(results.finals.values()), None)
        if began is None or any(began["asked"][key] != asked[key] for key in SIZE):
            return None
        metric = columns_of(results.plan)[0]
        candidates = [Candidate.from_event(one, metric) for one in began["candidates"]]
        if candidates != pick_candidates(results, len(candidates)):
            return None
        return Round(number=began["number"], candidates=candidates, seeds=began["seeds"])

    def _next(self, seconds_left: float | None) -> Round | None:
        """The round to hold now; none if the time is too short for any."""
        results = self._results
        size: FinalsConfig | None = results.plan.finals
        if seconds_left is not None:
            size = fitting(results, seconds_left, self.place.share.slots)
            self._say_size(size, seconds_left)
        if size is None:
            return None
        return Round(
            number=max(results.finals, default=0) + 1,
            candidates=pick_candidates(results, size.candidates),
            seeds=size.seeds,
        )

    def _say_size(self, size: FinalsConfig | None, seconds_left: float) -> None:
        wanted = self._results.plan.finals
        if size == wanted:
            return
        left = f"The time budget leaves {max(0.0, seconds_left):.0f} s for the finals"
        if size is None:
            folder = shlex.quote(str(self._results.folder))
            self.say(f"{left}, which is too little for any; later: cifar-tune confirm {folder}")
        else:
            self.say(
                f"{left}: {size.candidates} of {wanted.candidates} candidates, with"
                f" {size.seeds} of {wanted.seeds} seeds"
            )

    def _begin(self, current: Round) -> None:
        if current.number not in self._results.finals:
            self.recorder.write(
                "finals_began",
                number=current.number,
                asked=self._asked_for(),
                candidates=[candidate.as_event() for candidate in current.candidates],
                seeds=current.seeds,
            )

    def _confirm(self, current: Round) -> Candidate | None:
        """The candidate to train for good; none if this was interrupted."""
        candidates, done = current.candidates, self._results.confirmed.get(current.number)
        if done is not None:
            return next(one for one in candidates if one.trial_id == done["trial_id"])
        if len(candidates) < 2 or not compares(self._results.plan):
            return candidates[0]
        self.say(
            f"Finals, 1 of 2: the best {len(candidates)} are trained with {current.seeds} fresh"
            " seeds each and compared on data that the search never saw."
        )
        points = [one.values for one in candidates] * current.seeds
        trainings = self._retrain("confirm", current, points, self.data.part("search"))
        if trainings is None:
            return None
        confirmed = self._compare(candidates, trainings)
        if self._interrupted:
            return None
        chosen = self._write_confirmed(current, confirmed)
        self._drop_checkpoints("confirm", current)
        return chosen

    def _compare(self, candidates: Sequence[Candidate], trainings: Results) -> list[Confirmed]:
        task, plan = scoring(self._results.plan), trainings.plan
        examples = task.held_out(self.data, "confirm", plan)
        correct = {}
        for name, trial in trainings.trials.items():
            if trial.status == "completed":
                with at_hand(newest_checkpoint(trainings, trial)) as checkpoint:
                    correct[name] = task.score(checkpoint, examples, plan)
        return gather(candidates, trainings, correct)

    def _write_confirmed(self, current: Round, confirmed: Sequence[Confirmed]) -> Candidate:
        winner = chosen = current.candidates[0]
        comparison: dict[str, Any] | None = None
        if confirmed:
            best, comparison = choose(confirmed)
            chosen = best.candidate
        else:
            self.say("No candidate could be trained again; the search's winner is taken.")
        mean = next((one.mean for one in confirmed if one.candidate == winner), None)
        self.recorder.write(
            "confirmed",
            number=current.number,
            trial_id=chosen.trial_id,
            epoch=chosen.epoch,
            # By how much the best of many looks better than it is.
            optimism=None if mean is None else winner.value - mean,
            confirm=comparison,
        )
        return chosen

    def _score(self, current: Round, chosen: Candidate) -> None:
        """Train the final models unless the test split was opened for them, and score them."""
        subject = {
            "number": current.number,
            "trial_id": chosen.trial_id,
            "epoch": chosen.epoch,
        }
        opened = self._results.test_opened
        if opened is not None and opened.get("number") == current.number:
            models, lost = opened["models"], opened["lost"]
        else:
            trainings = self._train_for_good(current, chosen)
            if trainings is None:
                return
            counts = trainings.counts()
            lost = {kind: counts[kind] for kind in ("diverged", "failed")}
            models = keep_models(self._results.folder, trainings)
        if not models:
            self.say("No final training was completed, so the test split stays closed.")
        elif not self._interrupted:
            score_models(self.recorder, self.data, subject, models, lost=lost, again=self.again)
            self._drop_checkpoints("final", current)

    def _train_for_good(self, current: Round, chosen: Candidate) -> Results | None:
        self.say(
            f"Finals, 2 of 2: {chosen.trial_id}'s configuration is trained with"
            f" {current.seeds} fresh seeds on all training data; then the test split is opened."
        )
        points = [chosen.values] * current.seeds
        return self._retrain("final", current, points, self.data.part("final"))

    def _folder(self, stage: str, current: Round) -> Path:
        return self._results.folder / FINALS / f"{stage}-{current.number}"

    def _drop_checkpoints(self, stage: str, current: Round) -> None:
        """What the stage came to is recorded: its checkpoints are not needed any more."""
        drop_all(Results.read(self._folder(stage, current)))

    def _retrain(
        self, stage: str, current: Round, points: list[dict[str, Any]], part: Any
    ) -> Results | None:
        """The trainings, all ended; none if a signal came."""
        if self._interrupted:
            return None
        facts = self._results.data
        if stage == "final":
            facts = {**facts, "train": sum(facts[name] for name in ("train", "val", "confirm"))}
        trainings, stop = retrain(
            self.place,
            self._folder(stage, current),
            retraining_plan(self._results.plan, stage, len(points)),
            points,
            part,
            facts,
        )
        if stop.reason is not None:
            self.stop.signal, self.stop.reason = stop.signal, stop.reason
            return None
        counts = trainings.counts()
        if counts["completed"] < len(points):
            lost = next(t for t in trainings.trials.values() if t.status != "completed")
            self.say(
                f"{counts['failed']} of {len(points)} trainings failed and {counts['diverged']}"
                f" diverged (the first: {lost.trial_id} of {stage}: {lost.reason})"
            )
        return trainings
