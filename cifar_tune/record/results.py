"""Results: a search's trials, all derived from the journal, and which of them is best."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar_tune.errors import ResultsError, one_line
from cifar_tune.files import RAY, as_path
from cifar_tune.plan.abilities import score_name
from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import plan_from
from cifar_tune.plan.space import Value
from cifar_tune.plan.task import columns_of, task_of
from cifar_tune.record.events import check_place, check_version, not_ours, what_is_wrong
from cifar_tune.record.journal import Event, Records, read_journal
from cifar_tune.record.ranking import Leaders, best_epoch
from cifar_tune.record.trials import CODE, STATUSES, UNFINISHED, Start, Trial


@dataclass(kw_only=True)
class Results:
    """A search as its journal tells it. Feed it events in order; nothing else changes it."""

    folder: Path
    plan: Plan = field(default_factory=Plan)
    data: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    trials: dict[str, Trial] = field(default_factory=dict)
    starts: list[Start] = field(default_factory=list)
    exchanges: list[int] = field(default_factory=list)
    started_from: Event | None = None
    epochs_run: int = 0
    finals: dict[int, Event] = field(default_factory=dict)
    known_to: dict[int, tuple[int, int]] = field(default_factory=dict)  # finals: trials, epochs
    confirmed: dict[int, Event] = field(default_factory=dict)
    test_openings: int = 0
    test_opened: Event | None = None
    test_scored: Event | None = None
    handed_over: Event | None = None
    finished: bool = False
    events: int = 0
    _plan_values: dict[str, Any] | None = None
    _leaders: Leaders = field(default_factory=Leaders)

    @classmethod
    def read(cls, folder: str | Path) -> Results:
        """Read the search in `folder`, running or not; raises as `journal.read_journal`."""
        return cls.from_records(as_path(folder), read_journal(as_path(folder)))

    @classmethod
    def from_records(cls, folder: Path, records: Records) -> Results:
        """The search that these events tell; a ResultsError if there are none."""
        if not records.events:
            raise ResultsError(f"{folder} holds no search; start one with --name {folder.name}")
        results = cls(folder=folder)
        for event in records.events:
            wrong = what_is_wrong(event)
            try:
                if not wrong:
                    results.apply(event)
                    results._check_values(event)
            except (LookupError, TypeError, ValueError) as error:  # what came before does not fit
                wrong = f"{type(error).__name__}: {one_line(error)}"
            if wrong:
                raise not_ours(folder, event, wrong)
        return results

    @property
    def caveat(self) -> str:
        """What must be said beside each score on this data; empty if nothing must."""
        return task_of(self.plan).caveat(self.data)

    def _check_values(self, event: Event) -> None:
        """Whether what a trial was given can be trained; else a ValueError or LookupError."""
        given_to = {"trial_created": [event], "exchanged": event.get("clones", [])}
        for given in given_to.get(event["event"], []):
            self.plan.run(given["values"], self.trials[given["trial_id"]].index)

    def apply(self, event: Event) -> None:
        """Take in one event of the journal; events of later versions are passed over."""
        self.events = event["seq"]
        handler: Callable[[Event], None] | None = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(event)

    def _on_search(self, event: Event) -> None:
        check_version(self.folder, event)
        self._take_plan(event["plan"])
        self.data = event["data"]
        self.environment = event["environment"]

    def _take_plan(self, recorded: dict[str, Any]) -> None:
        """A journal tells its plan at each start; it is checked when it is another one."""
        if recorded != self._plan_values:
            self.plan = plan_from(recorded, str(self.folder))
            self._plan_values = recorded

    def _on_environment(self, event: Event) -> None:
        """A start that goes on has other versions, another machine, another command."""
        self.environment = event["environment"]

    def _on_start(self, event: Event) -> None:
        number, slots = event["number"], event["slots"]
        storage = event.get("storage", f"{RAY}/{number}")  # always there, once
        check_place(self.folder, storage, self.starts)
        command = tuple(map(str, self.environment.get("command") or ()))
        self.starts.append(Start(number=number, slots=slots, storage=storage, command=command))
        self._take_plan(event["plan"])
        self.finished = False

    def _on_slots_changed(self, event: Event) -> None:
        start = self.starts[-1]  # nodes joined or left its cluster
        start.earlier_slots[event["time"]], start.slots = start.slots, event["slots"]

    def _on_started_from(self, event: Event) -> None:
        self.started_from = event

    def _on_extended(self, event: Event) -> None:
        """Completed trials that the new length makes incomplete go on."""
        self._take_plan(event["plan"])
        self.finished = False
        for trial in self.trials.values():
            if trial.status == "completed" and trial.epochs < self.plan.train.max_epochs:
                trial.status, trial.completed_epochs = "pending", trial.epochs
        self._leaders.update(self.trials.values(), self.plan)

    def _on_trial_created(self, event: Event) -> None:
        fields = {key: event[key] for key in ("trial_id", "index", "seed", "values")}
        self.trials[event["trial_id"]] = Trial(**fields, created=event["time"])
        self._touch(event)

    def _on_trial_started(self, event: Event) -> None:
        trial = self.trials[event["trial_id"]]
        trial.status, trial.paused = "running", False
        self._touch(event)

    def _on_result(self, event: Event) -> None:
        trial, metrics = self.trials[event["trial_id"]], event["metrics"]
        epoch = int(metrics["epoch"])
        if event["diverged"]:  # earlier versions reported stand-ins there, no figures
            judged = {self.plan.search.metric, *columns_of(self.plan)}
            metrics = {name: value for name, value in metrics.items() if name not in judged}
        trial.results[epoch] = metrics
        trial.spans[metrics["first_step_at"]] = metrics["reported_at"]
        for kept in [{**event, "epoch": epoch}, *event.get("earlier", ())]:
            if kept["checkpoint"] is not None:
                check_place(self.folder, kept["checkpoint"], self.starts)
                trial.checkpoints[kept["epoch"]] = kept["checkpoint"]
        # The scheduler's decision is in the same line: a crash before trial_ended changes nothing.
        if epoch >= self.plan.train.max_epochs:
            trial.status = "completed"
        elif event.get("paused"):
            trial.status, trial.paused = "pending", True
        elif event["done"]:
            trial.status = "stopped"
        if event["diverged"]:
            trial.status = "diverged"
        self.epochs_run += 1
        self._touch(event, trial)
        self._leaders.update(self.trials.values(), self.plan, trial)

    def _on_checkpoints_dropped(self, event: Event) -> None:
        for epoch in event["epochs"]:
            self.trials[event["trial_id"]].checkpoints.pop(epoch, None)

    def _on_checkpoints_lost(self, event: Event) -> None:
        self._on_checkpoints_dropped(event)
        trial = self.trials[event["trial_id"]]
        if event.get("inherited") and trial.inherited is not None:
            # It goes on from its own checkpoint, with the values of now.
            before = trial.earlier_values.pop(trial.inherited[0])
            if event["from_epoch"]:
                trial.earlier_values[event["from_epoch"]] = before
            trial.inherited = None

    def _on_trial_ended(self, event: Event) -> None:
        trial = self.trials[event["trial_id"]]
        trial.status, trial.reason = event["status"], event["reason"]
        if event["status"] == "failed":
            trial.failures.append(event.get("kind", CODE))
        self._touch(event, trial)
        self._leaders.update(self.trials.values(), self.plan, trial)

    def _on_measured(self, event: Event) -> None:
        self.trials[event["trial_id"]].measured.update(event["figures"])

    def _on_trial_retried(self, event: Event) -> None:
        trial = self.trials[event["trial_id"]]
        trial.failures.append(event.get("kind", CODE))
        if event.get("by_user"):
            trial.failures.clear()
        trial.status, trial.reason = "pending", ""
        self.finished = False
        self._touch(event, trial)
        self._leaders.update(self.trials.values(), self.plan)

    def _on_exchanged(self, event: Event) -> None:
        epoch = event["epoch"]
        self.exchanges.append(epoch)
        for clone in event["clones"]:
            trial = self.trials[clone["trial_id"]]
            trial.earlier_values[epoch] = trial.values
            trial.values = clone["values"]
            check_place(self.folder, clone["checkpoint"], self.starts)
            trial.inherited = epoch, clone["checkpoint"]

    def _on_finals_began(self, event: Event) -> None:
        """Whoever goes on with them goes on as they were asked for."""
        self.finals[event["number"]] = event
        self.known_to[event["number"]] = len(self.trials), self.epochs_run
        asked = type(self.plan.finals)(**event["asked"])
        self.plan = self.plan.model_copy(update={"finals": asked})
        self._plan_values = None

    def _on_confirmed(self, event: Event) -> None:
        self.confirmed[event["number"]] = event

    def _on_test_opened(self, event: Event) -> None:
        self.test_opened = event
        self.test_openings += 1

    def _on_test_scored(self, event: Event) -> None:
        scores = event[f"test_{score_name(self.plan)}"]
        if not all(isinstance(score, float) and math.isfinite(score) for score in scores):
            raise ValueError("its scores are no numbers")
        self.test_scored = event

    def _on_handed_over(self, event: Event) -> None:
        self.handed_over = event

    def _on_finished(self, _: Event) -> None:
        self.finished = True

    def _touch(self, event: Event, trial: Trial | None = None) -> None:
        """The search's wall clock runs from its first event about a trial to the last."""
        if trial is not None:
            trial.ended = event["time"]
        if self.starts:
            self.starts[-1].reach(event["time"])

    def counts(self) -> dict[str, int]:
        """Trials by status, with `total`."""
        counts = Counter(trial.status for trial in self.trials.values())
        return {"total": len(self.trials), **{status: counts[status] for status in STATUSES}}

    def unfinished(self) -> list[Trial]:
        """Those that are still to run, or to go on."""
        return [trial for trial in self.trials.values() if trial.status in UNFINISHED]

    def known_point(self, index: int) -> dict[str, Value]:
        """What is settled of configuration `index` (from 0) beforehand; empty if nothing is."""
        points = self.started_from["points"] if self.started_from else []
        return dict(points[index]) if index < len(points) else {}

    @property
    def test_pending(self) -> bool:
        """Whether the test split was opened, and what it was opened for is not scored yet."""
        opened, scored = self.test_opened, self.test_scored
        return opened is not None and (scored is None or scored["seq"] < opened["seq"])

    def best(self) -> Trial | None:
        return self._leaders.of_all.trial

    def winner(self) -> dict[str, Any] | None:
        """The best trial as `summary.json` tells it."""
        if (best := self.best()) is None:
            return None
        epoch = best_epoch(best, self.plan.search)
        return {
            "trial_id": best.trial_id,
            "epoch": epoch,
            **{name: best.results[epoch].get(name) for name in columns_of(self.plan)},
            "config": best.values_at(epoch),
        }

    def best_ended(self) -> Trial | None:
        """The leader among the trials that ended: nothing can take its place but a better one."""
        return self._leaders.ended.trial

    @property
    def offered_seconds(self) -> float:
        """Seconds of all slots, in all starts."""
        return sum(start.offered_seconds for start in self.starts)

    def cost(self) -> dict[str, Any]:
        """Where the time went; utilisation is busy / (wall x slots)."""
        offered, busy = self.offered_seconds, sum(one.busy_seconds for one in self.trials.values())
        return {
            "wall_seconds": round(sum(start.wall_seconds for start in self.starts), 3),
            "busy_seconds": round(busy, 3),
            "slots": self.starts[-1].slots if self.starts else 0,
            "utilisation": round(busy / offered, 4) if offered else 0.0,
            "epochs_run": self.epochs_run,
            "epochs_without_stopping": len(self.trials) * self.plan.train.max_epochs,
        }
