"""What a search came to: its winner, the test score, the failures, and the exit code."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from cifar_tune.data import Dataset, SearchData
from cifar_tune.errors import NoUsableTrialError
from cifar_tune.results import Recorder, Results
from cifar_tune.search.bohb import NOT_RESUMABLE
from cifar_tune.search.checkpoints import tidy
from cifar_tune.search.stop import TIME_BUDGET, StopRequest
from cifar_tune.tables import failures, finals_of, write_tables

Say = Callable[[str], None]


def resume_command(folder: Path) -> str:
    """The command that goes on with the search in `folder`."""
    return f"python -m cifar_tune.tune resume {shlex.quote(str(folder))}"


def finish(
    recorder: Recorder, dataset: Dataset, data: SearchData, stop: StopRequest, say: Say
) -> int:
    """Write winner, test score and tables, show the outcome, and return the exit code.

    Raises:
        NoUsableTrialError: the search is over, and no trial is usable.
    """
    results = recorder.results
    if results.counts()["interrupted"]:
        stop.ask("Ray, without a reason")
    if stop.signal is None:
        # A time budget buys an answer; what else stops a search leaves it to whoever goes on.
        _write_winner(recorder, dataset, data, say, score=stop.reason in (None, TIME_BUDGET))
    if stop.reason is None:
        tidy(recorder)
        recorder.write("finished")
    write_tables(results)
    _show_outcome(results, say)
    if stop.reason is not None:
        _show_way_on(results, stop, say)
    if stop.signal is not None:
        return 128 + stop.signal
    if stop.error is not None:
        raise stop.error
    if results.best() is None and (stop.reason is None or results.counts()["failed"]):
        raise NoUsableTrialError("no trial is usable; the table above has the reasons")
    return 3 if results.counts()["failed"] else 0


def _show_way_on(results: Results, stop: StopRequest, say: Say) -> None:
    """How a search that was stopped can go on; the command is the last line."""
    cause = f"Stopped by {stop.reason}" if stop.signal is not None else f"Stopped: {stop.reason}"
    if results.plan.search.scheduler == "bohb":
        say(f"{cause}; everything reported is saved. The search can't go on: {NOT_RESUMABLE}")
        return
    say(f"{cause}; everything reported is saved. Go on with:")
    say(resume_command(results.folder))


def _write_winner(
    recorder: Recorder, dataset: Dataset, data: SearchData, say: Say, *, score: bool
) -> None:
    """Write `best/`; `score` it on the test split unless the search may still find a better one."""
    if recorder.results.best() is None:
        return
    # These import torch, which costs seconds that the start and a stopped search do not have.
    from cifar_tune.best import write_best
    from cifar_tune.finals import score_test_split

    checkpoint = write_best(recorder.results, data)
    if checkpoint is None:
        say("The winner has no checkpoint, so there is no best/ and no test score.")
    elif score and score_test_split(recorder, dataset, checkpoint) is None:
        opened = recorder.results.test_opened
        assert opened is not None
        say(
            f"The test split was opened for {opened['trial_id']} before, and stays closed: a second"
            " look would make its score a choice."
        )


def _show_outcome(results: Results, say: Say) -> None:
    for line in failure_table(results):
        say(line)
    winner, cost = results.winner(), results.cost()
    say(
        f"{cost['epochs_run']} of {cost['epochs_without_stopping']} epochs run in"
        f" {cost['wall_seconds']:.0f} s on {cost['slots']} slots, {cost['utilisation']:.0%} busy"
    )
    if winner is None:
        return
    say(
        f"winner {winner['trial_id']} (epoch {winner['epoch']}): validation accuracy"
        f" {winner['val_accuracy']:.4f}, loss {winner['val_loss']:.4f}"
    )
    say("  " + "  ".join(f"{field}={value}" for field, value in winner["config"].items()))
    finals = finals_of(results)
    if finals is not None:
        kind = " on the DRAWN set, not CIFAR-10" if results.data["kind"] == "drawn" else ""
        say(f"test accuracy {finals['mean']:.4f}{kind}")
    say(f"results in {results.folder}")


def failure_table(results: Results) -> list[str]:
    """The trials that failed or diverged, a line each under a heading; empty if there are none."""
    rows = [
        (one["trial_id"], one["kind"], str(one["tries"]), str(one["epochs"]), one["reason"])
        for one in failures(results)
    ]
    if not rows:
        return []
    rows.insert(0, ("trial", "failure", "tries", "epochs", "reason"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  ".join([*(word.ljust(w) for word, w in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]
