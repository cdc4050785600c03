"""The answer that a page begins with: the figure that counts, its interval, how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cifar_tune.files import BEST
from cifar_tune.plan.abilities import score_name
from cifar_tune.plan.task import columns_of, in_words
from cifar_tune.record.ranking import best_epoch
from cifar_tune.record.results import Results
from cifar_tune.record.tables import finals_of, model_in_words, told_of_new
from cifar_tune.record.trials import STATUSES
from cifar_tune.report.words import counted, measured

SMALL_SEEDS = "an interval needs at least 3 seeds"


def headline_of(results: Results, nested: dict[str, Results]) -> dict[str, Any]:
    """The answer as far as it is known; `nested` are the searches of the finals by name."""
    winner, finals = results.winner(), finals_of(results)
    scores: list[float] = (finals or {}).get(f"test_{score_name(results.plan)}") or []
    figures = _winner_figures(results, winner)
    confirm: dict[str, Any] = (finals or {}).get("confirm") or {}
    candidates: list[dict[str, Any]] = confirm.get("candidates", [])
    if finals is not None and finals.get("mean") is not None:
        model = finals.get("model") or {"score": finals["mean"]}
        name, big = f"test {score_name(results.plan)}", measured(model["score"])
        interval = _interval_of(finals, len(scores))
    elif figures:
        (name, big, _), *figures = figures
        interval = (
            "The best of many on the data that it was chosen by: expect less on new data."
            " The test split has not been opened."
        )
    else:
        big, name, interval = "none", "no winner", "No trial has an epoch that it can be judged by."
    return {
        "winner": winner,
        "big": big,  # the figure that counts most
        "big_name": name,
        "interval": interval,  # in words, or why there is none
        "figures": [*figures, *_finals_figures(finals), *_search_figures(results)],
        "statement": confirm.get("statement", ""),
        "finals": finals,
        "scores": scores,  # of each final model on the test split
        "costs": list(next((one["cost"] for one in candidates if one.get("cost")), {})),
        "chosen_by": _chosen_by(results, candidates),
        "under_way": _under_way(nested),
    }


def _under_way(nested: dict[str, Results]) -> list[str]:
    """The finals' searches that are not done."""
    return [
        f"{name}: {one.counts()['completed']} of {one.plan.search.num_samples} trainings done"
        for name, one in nested.items()
        if one.unfinished() or len(one.trials) < one.plan.search.num_samples
    ]


def _chosen_by(results: Results, candidates: list[dict[str, Any]]) -> dict[str, float]:
    """The metric of each trial that the finals compared, as the search had it."""
    search, values = results.plan.search, dict[str, float]()
    for told in candidates:
        trial = results.trials.get(told["trial_id"])
        if trial is not None and trial.usable:
            values[trial.trial_id] = trial.results[best_epoch(trial, search)][search.metric]
    return values


def _interval_of(finals: dict[str, Any], count: int) -> str:
    model = finals.get("model")
    if model is not None:
        words = f"By the model in {BEST}/, {model_in_words(model, finals)}"
        told = f"; {_range(model['ci95'])} for it on new data" if model["ci95"] else ""
        return f"{words}{told}."
    if finals.get("ci95") is not None:
        return (
            f"{_range(finals['ci95'])} for {told_of_new(finals)} of this configuration"
            f" ({counted(count, 'seed')}, all training data)"
        )
    if count == 1:
        return f"One training, one score: it has no interval yet ({SMALL_SEEDS})."
    return f"Mean of {count} trainings; {SMALL_SEEDS}."


def _range(interval: Sequence[float]) -> str:
    return "95 % interval {} to {}".format(*map(measured, interval))


def _winner_figures(results: Results, winner: dict[str, Any] | None) -> list[tuple[str, str, str]]:
    """What the winner was chosen by; its other figures stand beside it."""
    if winner is None:
        return []
    known = [name for name in columns_of(results.plan) if winner.get(name) is not None]
    first, *others = known or [results.plan.search.metric]
    beside = [f"{in_words(name)} {measured(winner[name])}" for name in others]
    note = "; ".join([f"{winner['trial_id']}, epoch {winner['epoch']}", *beside])
    return [(in_words(first), measured(winner[first]), note)]


def _finals_figures(finals: dict[str, Any] | None) -> list[tuple[str, str, str]]:
    figures = []
    if finals is not None and finals.get("model") is not None and len(finals["seeds"]) > 1:
        note = SMALL_SEEDS
        if finals["ci95"] is not None:
            note = f"{_range(finals['ci95'])} for {told_of_new(finals)}"
        figures.append(("mean of all final models", measured(finals["mean"]), note))
    if finals is not None and finals.get("std") is not None:
        note = f"standard deviation of {counted(len(finals['seeds']), 'seed')}"
        figures.append(("spread between seeds", measured(finals["std"]), note))
    if finals is not None and finals.get("optimism") is not None:
        by, sign = finals["optimism"], "+" if finals["optimism"] >= 0 else "-"
        note = (
            "by how much the winner looked better on the validation data, which chose it, than its"
            " new trainings are"
        )
        figures.append(("optimism of the search", f"{sign}{measured(abs(by))}", note))
    return figures


def _search_figures(results: Results) -> list[tuple[str, str, str]]:
    counts, cost = results.counts(), results.cost()
    told = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    without = f"of {cost['epochs_without_stopping']:,} without early stopping"
    return [
        ("trials", f"{counts['total']:,}", told),
        ("epochs run", f"{cost['epochs_run']:,}", without),
    ]
