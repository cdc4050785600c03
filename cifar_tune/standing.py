"""Where a search stands, and what would go on from where."""

from __future__ import annotations

from collections.abc import Iterator

from cifar_tune.preflight import number_of_trials
from cifar_tune.results import Results
from cifar_tune.search.checkpoints import damaged


def standing(results: Results) -> str:
    """Where a search stands, in a sentence."""
    counts = results.counts()
    named = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"Going on with {results.folder}: {named}, of {results.plan.search.num_samples}."


def way_on(results: Results) -> Iterator[str]:
    """A line for each trial that would go on, and one for those that are still to come."""
    for trial in results.unfinished():
        lost = damaged(results.folder, trial)
        whole = [epoch for epoch in trial.checkpoints if epoch not in lost]
        after = f"after its checkpoint of epoch {max(whole)}" if whole else "from the start"
        if trial.inherited and max(whole, default=0) <= trial.inherited[0]:
            after = f"with what it took over in epoch {trial.inherited[0]}"
        gone = f"; damaged or gone: those of {', '.join(map(str, lost))}" if lost else ""
        yield f"{trial.trial_id} would go on {after}{gone}"
    yield f"{max(0, number_of_trials(results.plan) - len(results.trials))} trials are still to come"
