"""The finals from one recorded step to the next: candidates, confirmation, final models, test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cifar_tune.config import FinalsConfig
from cifar_tune.data import Dataset, SearchData
from cifar_tune.data.held_out import open_confirm_split
from cifar_tune.errors import ResultsError
from cifar_tune.finals.candidates import Candidate, fitting, pick_candidates
from cifar_tune.finals.confirmation import Confirmed, choose, gather
from cifar_tune.finals.final import (
    all_training_images,
    closed,
    correct_on,
    drop_checkpoints,
    keep_models,
    newest_checkpoint,
    score_models,
)
from cifar_tune.finals.retraining import Workplace, retrain, retraining_plan
from cifar_tune.preflight import compares
from cifar_tune.results import Recorder, Results, Say
from cifar_tune.search.stop import StopRequest


@dataclass(frozen=True, kw_only=True)
class Finals:
    """The finals of one search; each step is in its journal, and none is done twice.

    Attributes:
        recorder: of the search, which has a winner with a checkpoint.
        dataset, data: as `session.load_data` gives them.
        place: where trainings run.
        stop: gets the signal that interrupts the finals.
        say: shows a line.
        asked: whether the user asked for these finals, rather than for a search.
        again: whether the user asked for another look at the test split.
    """

    recorder: Recorder
    dataset: Dataset
    data: SearchData
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
            CifarTuneError: a journal can't be written, data is damaged, a model is gone, or these
                finals were asked for and the test split was opened for others.
        """
        size = self._size(seconds_left)
        if size is None:
            return
        candidates, seeds, number = size
        opened, scored = self._results.test_opened, self._results.test_scored
        same_look = opened is not None and opened.get("number") == number
        if scored is not None and same_look and not self.again:
            return
        if opened is not None and not same_look and not self.again:
            if self.asked:
                raise ResultsError(closed(self._results))
            self.say(closed(self._results))
            return
        chosen = self._confirm(number, candidates, seeds)
        if chosen is not None:
            models = opened["models"] if opened is not None and same_look else None
            self._score(number, chosen, seeds, models)

    @property
    def _results(self) -> Results:
        return self.recorder.results

    def _size(self, seconds_left: float | None) -> tuple[list[Candidate], int, int] | None:
        """Candidates, seeds and number of these finals: those that began go on as they began."""
        results = self._results
        asked = results.plan.finals.model_dump(include={"candidates", "seeds"})
        began = results.finals_began
        number = 1 if began is None else began["number"]
        if began is not None:
            known = [Candidate(**candidate) for candidate in began["candidates"]]
            if began["asked"] == asked and known == pick_candidates(results, len(known)):
                return known, began["seeds"], number
            number += 1
        size: FinalsConfig | None = results.plan.finals
        if seconds_left is not None:
            size = fitting(results, seconds_left, self.place.share.slots)
            self._say_size(size, seconds_left)
        if size is None:
            return None
        candidates = pick_candidates(results, size.candidates)
        if results.test_opened is None or self.again:
            self.recorder.write(
                "finals_began",
                number=number,
                asked=asked,
                candidates=[candidate.as_event() for candidate in candidates],
                seeds=size.seeds,
            )
        return candidates, size.seeds, number

    def _say_size(self, size: FinalsConfig | None, seconds_left: float) -> None:
        wanted = self._results.plan.finals
        if size == wanted:
            return
        left = f"The time budget leaves {max(0.0, seconds_left):.0f} s for the finals"
        if size is None:
            self.say(f"{left}, which is too little for any; later: cifar-tune confirm DIR")
        else:
            self.say(
                f"{left}: {size.candidates} of {wanted.candidates} candidates, with"
                f" {size.seeds} of {wanted.seeds} seeds"
            )

    def _confirm(
        self, number: int, candidates: Sequence[Candidate], seeds: int
    ) -> Candidate | None:
        """The candidate to train for good; none if a signal came."""
        done = self._results.confirmed
        if done is not None:
            return next(one for one in candidates if one.trial_id == done["trial_id"])
        if len(candidates) < 2 or not compares(self._results.plan):
            return candidates[0]
        self.say(
            f"Finals, 1 of 2: the best {len(candidates)} are trained with {seeds} fresh seeds each"
            " and compared on images that the search never saw."
        )
        points = [candidates[i % len(candidates)].values for i in range(len(candidates) * seeds)]
        trainings = self._retrain("confirm", number, points, self.data)
        if trainings is None:
            return None
        confirmed = self._compare(candidates, trainings)
        if not confirmed:
            self.say("No candidate could be trained again; the search's winner is taken.")
            return candidates[0]
        chosen, comparison = choose(confirmed)
        self._write_confirmed(number, candidates[0], chosen.candidate, confirmed, comparison)
        drop_checkpoints(trainings)
        return chosen.candidate

    def _compare(self, candidates: Sequence[Candidate], trainings: Results) -> list[Confirmed]:
        images = open_confirm_split(self.dataset, self._results.plan.data)
        correct = {
            name: correct_on(newest_checkpoint(trainings, trial), images, gpu=trainings.plan.on_gpu)
            for name, trial in trainings.trials.items()
            if trial.status == "completed"
        }
        return gather(candidates, trainings, correct)

    def _write_confirmed(
        self,
        number: int,
        winner: Candidate,
        chosen: Candidate,
        confirmed: Sequence[Confirmed],
        comparison: dict[str, Any],
    ) -> None:
        again = next((one.mean for one in confirmed if one.candidate == winner), None)
        self.recorder.write(
            "confirmed",
            number=number,
            trial_id=chosen.trial_id,
            epoch=chosen.epoch,
            # By how much the best of many looks better than it is.
            optimism=None if again is None else winner.val_accuracy - again,
            confirm=comparison,
        )

    def _score(
        self, number: int, chosen: Candidate, seeds: int, models: list[dict[str, Any]] | None
    ) -> None:
        """Train the final models unless the test split was opened for them, and score them."""
        trainings = None
        if models is None:
            self.say(
                f"Finals, 2 of 2: {chosen.trial_id}'s configuration is trained with {seeds} fresh"
                " seeds on all training images; then the test split is opened."
            )
            data = all_training_images(self.dataset, self.data, self._results)
            trainings = self._retrain("final", number, [chosen.values] * seeds, data)
            if trainings is None:
                return
            models = keep_models(self._results.folder, trainings)
        if not models:
            self.say("No final training was completed, so the test split stays closed.")
            return
        subject = {"trial_id": chosen.trial_id, "epoch": chosen.epoch, "number": number}
        score_models(self.recorder, self.dataset, subject, models, again=self.again)
        if trainings is not None:
            drop_checkpoints(trainings)

    def _retrain(
        self, stage: str, number: int, points: list[dict[str, Any]], data: SearchData
    ) -> Results | None:
        """The trainings, all ended; none if a signal came."""
        results = self._results
        described = {
            **results.data,
            "train": len(data.train_labels),
            "val": len(data.val_labels),
        }
        folder = results.folder / "finals" / f"{stage}-{number}"
        plan = retraining_plan(results.plan, stage, len(points))
        trainings, stop = retrain(self.place, folder, plan, points, data, described)
        if stop.reason is not None:
            self.stop.signal = stop.signal
            self.stop.reason = stop.reason
            return None
        counts = trainings.counts()
        if counts["completed"] < len(points):
            lost = next(t for t in trainings.trials.values() if t.status != "completed")
            self.say(
                f"{counts['failed']} of {len(points)} trainings failed and {counts['diverged']}"
                f" diverged; they are left out ({lost.trial_id}: {lost.reason})"
            )
        return trainings
