"""The compute ledger: what was spent on training, on all else, and what early stopping saved."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cifar_tune.errors import CifarTuneError
from cifar_tune.files import FINALS
from cifar_tune.record.journal import FILE_NAME
from cifar_tune.record.results import Results


class Entry(NamedTuple):
    """One line of the ledger; `part` of what was spent in all, none for what was not spent."""

    name: str
    amount: float
    part: float | None
    note: str


def units_per_trial(results: Results) -> float:
    """What a trial occupies: GPUs on GPUs, else CPUs."""
    resources = results.plan.resources
    wanted = resources.gpus_per_trial if results.plan.on_gpu else resources.cpus_per_trial
    return 1.0 if wanted == "auto" else float(wanted)


def compute_unit(results: Results) -> str:
    """What the ledger counts."""
    return "GPU seconds" if results.plan.on_gpu else "CPU seconds"


def nested_searches(folder: Path) -> dict[str, Results]:
    """The searches of the finals that lie in a results folder, by name, oldest first."""
    found = {}
    for journal in sorted((folder / FINALS).glob(f"*/{FILE_NAME}")):
        try:
            found[journal.parent.name] = Results.read(journal.parent)
        except CifarTuneError:
            continue  # it is just being begun; the page is written again at the end
    return found


def saved_seconds(results: Results) -> tuple[int, float]:
    """Epochs that trials stopped early did not run, and what those would have taken."""
    mean = sum(t.busy_seconds for t in results.trials.values()) / max(1, results.epochs_run)
    epochs, seconds = 0, 0.0
    for trial in results.trials.values():
        if trial.status == "stopped":
            left = max(0, results.plan.train.max_epochs - trial.epochs)
            own = trial.busy_seconds / len(trial.results) if trial.results else mean
            epochs, seconds = epochs + left, seconds + left * own
    return epochs, seconds


def ledger(results: Results, finals: dict[str, Results]) -> list[Entry]:
    """The entries, spent ones first; amounts in `compute_unit`."""
    units, busy = units_per_trial(results), sum(t.busy_seconds for t in results.trials.values())
    offered = results.offered_seconds
    extra = {name: one.offered_seconds * units_per_trial(one) for name, one in finals.items()}
    spent = max(offered, busy) * units + sum(extra.values())
    epochs, saved = saved_seconds(results)

    def entry(name: str, amount: float, note: str) -> Entry:
        return Entry(name, amount, amount / spent if spent else 0.0, note)

    without = "slots' time without training: starts, waiting, the end of the search"
    entries = [
        entry("training in the search", busy * units, f"{results.epochs_run:,} epochs"),
        entry("overhead", max(0.0, offered - busy) * units, without),
    ]
    entries += [
        entry(f"finals: {name}", amount, f"{finals[name].epochs_run:,} epochs, overhead included")
        for name, amount in extra.items()
    ]
    estimated = f"estimated: {epochs:,} epochs not run, at the seconds an epoch of each trial"
    saving = Entry("saved by early stopping", saved * units, None, estimated)
    return [*entries, Entry("spent in all", spent, 1.0, ""), saving]
