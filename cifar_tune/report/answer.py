"""The answer that a page begins with: winner, accuracy and its interval, what to do with it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any

from cifar_tune.files import BEST, FINALS
from cifar_tune.record.results import Results
from cifar_tune.record.tables import finals_of
from cifar_tune.record.trials import STATUSES

SMALL_SEEDS = "an interval needs at least 3 seeds"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is known of the winner, in words and figures.

    Attributes:
        winner: as `Results.winner` tells it, or none.
        big: the accuracy that counts most, as a percentage.
        big_name: what it is.
        interval: its 95 % interval in words, or why there is none.
        figures: name, value and note of each further figure.
        statement: how sure it is that the winner is the best.
        finals: as `tables.finals_of` tells them, or none.
        under_way: the finals' searches that are not done.
    """

    winner: dict[str, Any] | None
    big: str
    big_name: str
    interval: str
    figures: list[tuple[str, str, str]]
    statement: str
    finals: dict[str, Any] | None
    under_way: list[str] = field(default_factory=list)


def answer_of(results: Results, nested: dict[str, Results]) -> Answer:
    """The answer as far as it is known; `nested` are the searches of the finals by name."""
    winner, finals = results.winner(), finals_of(results)
    under_way = [
        f"{name}: {one.counts()['completed']} of {one.plan.search.num_samples} trainings done"
        for name, one in nested.items()
        if one.unfinished() or len(one.trials) < one.plan.search.num_samples
    ]
    figures = _figures(results, winner, finals)
    if finals is not None and finals.get("mean") is not None:
        big, name, interval = _percent(finals["mean"]), "test accuracy", _interval_of(finals)
    elif winner is not None:
        big, name = _percent(winner["val_accuracy"]), "validation accuracy"
        interval = (
            "The best of many on the images that it was chosen by: expect less on new images."
            " The test split has not been opened."
        )
        figures = [one for one in figures if one[0] != "validation accuracy"]
    else:
        big, name, interval = "none", "no winner", "No trial has an epoch that it can be judged by."
    return Answer(
        winner=winner,
        big=big,
        big_name=name,
        interval=interval,
        figures=figures,
        statement=((finals or {}).get("confirm") or {}).get("statement", ""),
        finals=finals,
        under_way=under_way,
    )


def _interval_of(finals: dict[str, Any]) -> str:
    count, interval = len(finals["test_accuracy"]), finals.get("ci95")
    if interval is not None:
        low, high = interval
        return (
            f"95 % interval {_percent(low)} to {_percent(high)} for a new training of this"
            f" configuration on new images ({count} seeds, all training images)"
        )
    if count == 1:
        return f"One training, one score: it has no interval yet ({SMALL_SEEDS})."
    return f"Mean of {count} trainings; {SMALL_SEEDS}."


def _figures(
    results: Results, winner: dict[str, Any] | None, finals: dict[str, Any] | None
) -> list[tuple[str, str, str]]:
    figures: list[tuple[str, str, str]] = []
    if winner is not None:
        figures.append(
            (
                "validation accuracy",
                _percent(winner["val_accuracy"]),
                f"{winner['trial_id']}, epoch {winner['epoch']}; loss {winner['val_loss']:.4f}",
            )
        )
    if finals is not None and finals.get("std") is not None:
        deviation = f"{100 * finals['std']:.2f} points"
        figures.append(("spread between seeds", deviation, f"{len(finals['seeds'])} seeds"))
    if finals is not None and finals.get("optimism") is not None:
        figures.append(
            (
                "optimism of the search",
                f"{100 * finals['optimism']:+.2f} points",
                "validation at selection less the mean on the confirmation images",
            )
        )
    counts, cost = results.counts(), results.cost()
    told = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    figures.append(("trials", f"{counts['total']:,}", told))
    figures.append(
        (
            "epochs run",
            f"{cost['epochs_run']:,}",
            f"of {cost['epochs_without_stopping']:,} without early stopping",
        )
    )
    return figures


def commands_of(results: Results) -> list[tuple[str, str]]:
    """What one may want to do next, and the command for it, by name."""
    folder, plan = shlex.quote(str(results.folder)), results.plan
    best = shlex.quote(str(results.folder / BEST))
    final = shlex.quote(str(results.folder / FINALS / "seed-1"))
    again = f"{results.folder.name}-again"
    saved = shlex.quote(str(results.folder / "plan.yaml"))
    commands = {
        "predict": f"cifar-tune predict --model {best} IMAGE...",
        "predict by a final model": f"cifar-tune predict --model {final} IMAGE...",
        "resume": f"cifar-tune resume {folder}",
        "extend": f"cifar-tune extend {folder} --num-samples +{plan.search.num_samples}",
        "confirm": f"cifar-tune confirm {folder}",
        "repeat": f"cifar-tune tune --config {saved} --name {shlex.quote(again)}",
        "report": f"cifar-tune report {folder}",
    }
    counts, finals = results.counts(), finals_of(results)
    if finals is None or len(finals["seeds"]) < 2:
        del commands["predict by a final model"]
    if results.finished:
        del commands["resume"]
    if counts["failed"]:
        commands["retry"] = f"cifar-tune retry-failed {folder}"
    started = [str(word) for word in results.environment.get("command", ())]
    if started:
        commands["started as"] = _started_as(started)
    return list(commands.items())


def _started_as(words: list[str]) -> str:
    """The recorded command as a shell takes it; `python -m` leaves the path of the module."""
    if words[0].endswith("cifar_tune/tune.py"):
        return shlex.join(["python", "-m", "cifar_tune.tune", *words[1:]])
    return shlex.join(words)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"
