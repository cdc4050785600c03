"""What a search came to: its winner, the test score, the failures, and the exit code."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cifar_tune.errors import EndedError, NoUsableTrialError, counted
from cifar_tune.files import BEST
from cifar_tune.finals.opening import score_winner
from cifar_tune.finals.stages import Finals
from cifar_tune.plan.abilities import Exports, Scores, score_name
from cifar_tune.plan.task import Say, columns_of, in_words, task_of
from cifar_tune.record.front import front
from cifar_tune.record.journal import resume_command
from cifar_tune.record.model_folder import holds_final
from cifar_tune.record.results import Results
from cifar_tune.record.tables import failures, finals_of, model_in_words, told_of_new, write_tables
from cifar_tune.report.words import measured, settings
from cifar_tune.report.writer import write_in_process
from cifar_tune.search.checkpoints import damaged, tidy
from cifar_tune.search.session import Session
from cifar_tune.search.stop import ASKED_FOR, TIME_BUDGET, UNASKED, StopRequest
from cifar_tune.session.latency import measure_latencies

SHOWN = 10  # trials of a front, in lines


def finish(
    session: Session,
    stop: StopRequest,
    *,
    seconds_left: float | None = None,
    asked: bool = False,
    again: bool = False,
) -> int:
    """Write the winner, hold the finals, write the tables, show it all; returns the exit code.

    Args:
        stop: what ended the search, if anything did.
        seconds_left: for the finals; none: as long as they take.
        asked: whether it is the finals that the user asked for.
        again: whether the test split may be opened once more.

    Raises:
        NoUsableTrialError: the search is over, and no trial is usable.
        EndedError: Ray ended it.
    """
    results, say = session.results, session.say
    if results.counts()["interrupted"]:
        stop.ask(UNASKED)
    if stop.signal is None:
        _judge_winner(session, stop, seconds_left, Finals(session, stop, asked=asked, again=again))
    if stop.reason is None:
        tidy(session.recorder)
        session.recorder.write("finished")
    write_tables(results)
    page = stop.signal is None and _write_page(results.folder, say)
    _show_outcome(results, say)
    say(f"results in {results.folder}" + ("; the page is report.html there" if page else ""))
    if stop.reason is not None:
        _show_way_on(results, stop, say)
    return _exit_code(results, stop)


def _judge_winner(
    session: Session, stop: StopRequest, seconds_left: float | None, finals: Finals
) -> None:
    """Write `best/`, and hold the finals or score it alone."""
    scores, seeds = isinstance(task_of(session.plan), Scores), session.plan.finals.seeds
    # A time budget buys an answer; what else stops a search leaves it to whoever goes on.
    judged = stop.reason in (None, TIME_BUDGET, ASKED_FOR)
    if judged:
        began = time.monotonic()
        measure_latencies(session, stop)
        if seconds_left is not None:
            seconds_left -= time.monotonic() - began
    to_come = judged and scores and seeds > 0
    checkpoint = _write_winner(session, whole=not to_come)
    if checkpoint is None or not judged:
        return
    if to_come:
        finals.run(seconds_left)
        if stop.signal is None and not holds_final(session.folder / BEST):
            _write_winner(session, whole=True)
    elif scores:
        score_winner(session, checkpoint, again=finals.again)
    else:
        session.say("The task can't score models on held-out data, so there are no finals.")


def _exit_code(results: Results, stop: StopRequest) -> int:
    if stop.signal is not None:
        return 128 + stop.signal
    if stop.error is not None:
        raise stop.error
    if stop.reason == UNASKED:
        raise EndedError(f"{UNASKED}; go on with: {resume_command(results.folder)}")
    if results.best() is None and (stop.reason is None or results.counts()["failed"]):
        raise NoUsableTrialError("no trial is usable; the table above has the reasons")
    return 3 if results.counts()["failed"] else 0


def _show_way_on(results: Results, stop: StopRequest, say: Say) -> None:
    """How a search that was stopped can go on; the command is the last line."""
    cause = f"Stopped by {stop.reason}" if stop.signal is not None else f"Stopped: {stop.reason}"
    say(f"{cause}; everything reported is saved. Go on with:")
    say(resume_command(results.folder))


def _write_winner(session: Session, *, whole: bool) -> Path | None:
    """Write the winner's folder, `whole` or not; its checkpoint, or none where there is none."""
    results, say, task = session.results, session.say, task_of(session.plan)
    if results.best() is None:
        return None
    if not isinstance(task, Exports):
        say(f"The task {task.name} keeps no model of the winner, so there is no test score.")
        return None
    checkpoint = task.write_winner(results, session.data, say, whole=whole)
    if checkpoint is None:
        say("The winner has no checkpoint, so there is no model of it and no test score.")
    return checkpoint


def _write_page(folder: Path, say: Say) -> bool:
    """Whether there is a new page: a signal leaves no time for one, and a fault costs nothing."""
    fault = write_in_process(folder)
    if fault is not None:
        again = f"cifar-tune report {shlex.quote(str(folder))}"
        say(f"No page was written ({fault}); try again: {again}")
    return fault is None


def _show_outcome(results: Results, say: Say) -> None:
    for line in failure_table(results):
        say(line)
    winner, cost = results.winner(), results.cost()
    say(
        f"{cost['epochs_run']} of {cost['epochs_without_stopping']} epochs run in"
        f" {cost['wall_seconds']:.0f} s on {counted(cost['slots'], 'slot')},"
        f" {cost['utilisation']:.0%} busy"
    )
    if winner is None:
        return
    say(f"winner {winner['trial_id']} (epoch {winner['epoch']}): {_figures(results, winner)}")
    say(f"  {settings(winner['config'])}")
    for line in front_lines(results):
        say(line)
    for line in finals_lines(results):
        say(line)


def _shown(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.0f}"


def _figures(results: Results, winner: Mapping[str, Any]) -> str:
    known = [name for name in columns_of(results.plan) if winner[name] is not None]
    return ", ".join(f"{in_words(name)} {_shown(winner[name])}" for name in known)


def front_lines(results: Results) -> list[str]:
    """The trials that are worth having by one objective or another; empty with a single one."""
    goals = results.plan.search.goals
    if len(goals) == 1:
        return []
    found = front(results)
    if not found:
        return ["No trial ran to its end with a figure for each objective, so there is no front."]
    names = [in_words(goal.metric) for goal in goals]
    told = [
        f"  {one}  " + "  ".join(f"{n} {measured(v)}" for n, v in zip(names, values, strict=True))
        for one, values in found.items()
    ]
    shown = told if len(told) <= SHOWN else [*told[:SHOWN], f"  and {len(told) - SHOWN} more"]
    return ["Of these no trial is better in every objective (the Pareto front):", *shown]


def finals_lines(results: Results) -> list[str]:
    """What the finals came to, in sentences; empty without any."""
    finals = finals_of(results)
    if finals is None:
        return []
    lines, metric = [], columns_of(results.plan)[0]
    if finals["confirm"]:
        lines.append(finals["confirm"]["statement"])
    if finals["optimism"] is not None:
        same = "final" in results.data and not results.data["confirm"]  # they validate on it too
        fresh = "" if same else " on fresh data"
        lines.append(
            f"optimism of the search: {finals['optimism']:+.4f}, by which the winner's"
            f" {in_words(metric)} is better than the mean of its new trainings{fresh}: the best of"
            " many looks better than it is"
        )
    if finals["mean"] is not None:
        lines += _test_lines(results, finals)
    return [*lines, finals["note"]] if finals["note"] else lines


def _test_lines(results: Results, finals: dict[str, Any]) -> list[str]:
    """The score of the model that is handed over, and what is known of all final models."""
    name, caveat = f"test {score_name(results.plan)}", results.caveat and f" {results.caveat}"
    model, count, lines = finals["model"], len(finals["seeds"]), []
    if model is not None:
        words = f"{name} {model['score']:.4f}{caveat} by the model in {BEST}/"
        ends = _interval(model["ci95"], "it on new data")
        lines.append(f"{words}, {model_in_words(model, finals)}{ends}")
        line = f"mean of all {count} final models {finals['mean']:.4f}"
    else:
        line = f"{name} {finals['mean']:.4f}{caveat}"
        line += f", mean of {count} seeds of {finals['trial_id']}'s configuration" * (count > 1)
    lost = [f"{number} {kind}" for kind, number in (finals["lost"] or {}).items() if number]
    if lost:
        line += f" ({', '.join(lost)} and left out)"
    if finals["std"] is not None:
        line += f", standard deviation {finals['std']:.4f}"
    line += _interval(finals["ci95"], told_of_new(finals))
    if count > 1 or model is None:
        lines.append(line)
    if finals["openings"] > 1:
        lines[-1] += f"; the test split was opened {finals['openings']} times"
    return lines


def _interval(ends: Sequence[float] | None, of: str) -> str:
    return "" if ends is None else f"; 95 % interval for {of}: {ends[0]:.4f} to {ends[1]:.4f}"


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
    to_come = max(0, results.plan.search.num_samples - len(results.trials))
    yield f"{counted(to_come, 'trial')} still to come"
