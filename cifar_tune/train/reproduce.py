"""One recorded trial, to be trained again alone, and the comparison of what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

from cifar_tune.errors import DataError, PlanError
from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import plan_from
from cifar_tune.plan.own_code import nearest
from cifar_tune.plan.task import Facts, columns_of
from cifar_tune.record.journal import Records, read_journal
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial

MORE_COMPARED = ("train_loss", "lr")  # besides the plan's columns

Metrics = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class RecordedTrial:
    """A trial as a search recorded it.

    Attributes:
        trial: with how it ended.
        plan: of the search.
        run: what it trained, with all that was settled for the machine of the search.
        epochs: its figures by epoch (from 1), as far as a training of `run` can repeat them.
        facts: of the dataset, as the journal has them.
        note: what can't be repeated; empty if all can.
    """

    trial: Trial
    plan: Plan
    run: Any
    epochs: Mapping[int, Metrics]
    facts: Facts
    note: str

    @property
    def last_epoch(self) -> int:
        """Where the repetition ends: a crashed trial's crash is looked for to the end."""
        crashed = self.trial.status == "failed"
        return self.run.train.max_epochs if crashed else max(self.epochs)

    def introduce(self) -> list[str]:
        """What is repeated, for people."""
        trial = self.trial
        reason = f" ({trial.reason})" if trial.reason else ""
        told = f"{trial.trial_id}: {trial.status}{reason}, {len(self.epochs)} epochs recorded"
        loose = self.plan.on_gpu and self.run.train.deterministic is not True
        last_digits = (
            "it trained on a GPU without train.deterministic: its figures may differ in their last"
            " digits, and grow apart from there"
        )
        return [told, *filter(None, [self.note, last_digits if loose else ""])]

    def check_data(self, fingerprint: str) -> None:
        """Refuse other data than the search's.

        Raises:
            DataError: the fingerprints differ.
        """
        recorded = self.facts.get("fingerprint", "")
        if fingerprint != recorded:
            raise DataError(
                f"the data has the fingerprint {fingerprint[:12]}, and {self.trial.trial_id} was"
                f" trained on {recorded[:12]}; give that data with --data-dir"
            )

    def compare(self, repeated: Sequence[Metrics]) -> list[str]:
        """Recorded and repeated figures side by side, where they differ, and a verdict."""
        pairs = [(self.epochs[int(m["epoch"])], m) for m in repeated if m["epoch"] in self.epochs]
        if not pairs:
            return ["there is nothing to compare: no epoch was recorded and repeated"]
        names = [*columns_of(self.plan), *MORE_COMPARED]
        different = [
            (now["epoch"], name, then.get(name, nan), now.get(name, nan))
            for then, now in pairs
            for name in names
            if then.get(name) != now.get(name)
        ]
        if not different:
            return [f"equal in all of {len(pairs)} epochs: {', '.join(names)}, bit for bit"]
        lines = ["epoch  figure        recorded      repeated      difference"]
        lines += [
            f"{epoch:5.0f}  {name:12}  {then:<12.6g}  {now:<12.6g}  {now - then:+.2e}"
            for epoch, name, then, now in different
        ]
        worst = max(abs(now.get(names[0], nan) - then.get(names[0], nan)) for then, now in pairs)
        return [
            *lines,
            f"differs from epoch {different[0][0]:.0f} on, by at most {worst:.4f} in {names[0]}:"
            " another kind of machine, number of threads, or version rounds otherwise",
        ]


def read_trial(folder: Path, trial_id: str, changes: Iterable[str] = ()) -> RecordedTrial:
    """A trial of the search in `folder`.

    Args:
        folder: a results folder.
        trial_id: t0001 and so on.
        changes: `key=value`, of fields that change no figure, such as where the data lies now.

    Raises:
        ResultsError, JournalError: as `journal.read_journal`.
        PlanError: there is no such trial, it reported nothing, or it can't be repeated alone.
    """
    records = read_journal(folder)
    results = Results.from_records(folder, records)
    trial = _find(results, trial_id)
    plan, limit = _before_extension(records, trial)
    if changes:
        plan = plan_from(plan.model_dump(mode="json"), "the recorded plan", changes)
    note = ""
    if trial.epochs > limit:
        note = (
            f"compared up to epoch {limit}: then the search was extended, and its schedule changed"
        )
    return RecordedTrial(
        trial=trial,
        plan=plan,
        run=plan.run(trial.values, trial.index),
        epochs={epoch: metrics for epoch, metrics in trial.results.items() if epoch <= limit},
        facts=results.data,
        note=note,
    )


def _find(results: Results, trial_id: str) -> Trial:
    trial = results.trials.get(trial_id)
    if trial is None:
        raise PlanError(
            f"--like: {results.folder} has no trial {trial_id!r}, but {len(results.trials)} from"
            f" t0001 on{nearest(trial_id, results.trials)}"
        )
    if trial.earlier_values:
        raise PlanError(
            f"--like: {trial_id} took over weights and values of other trials of its population, so"
            " it can't be repeated alone; name a trial that never did, or use its checkpoint"
        )
    if not trial.results and trial.status != "failed":
        raise PlanError(f"--like: {trial_id} is {trial.status} and has reported nothing yet")
    return trial


def _before_extension(records: Records, trial: Trial) -> tuple[Plan, int]:
    """The plan that held when a trial began to report, and its last epoch before that changed."""
    newest: Plan | None = None
    first: Plan | None = None
    limit = 0
    for event in records.of("search", "start", "extended", "result"):
        if event["event"] != "result":
            newest = plan_from(event["plan"], "the recorded plan")
        elif event["trial_id"] == trial.trial_id and newest is not None:
            first = first or newest
            if newest.train.max_epochs == first.train.max_epochs:
                limit = max(limit, int(event["metrics"]["epoch"]))
    return first or newest or plan_from({}, "the recorded plan"), limit
