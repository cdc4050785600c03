"""Population based training on the journal: when members exchange, and who takes what from whom.

Jaderberg et al. 2017, "Population Based Training of Neural Networks": here all members exchange at
the same epoch, by truncation selection. Who takes what is a function of the recorded results, so
that it comes out the same after a restart; `hold_exchange` carries it out on the disk.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cifar_tune.files import MODEL, copy, delete_folder, inside, is_whole, locate, parent
from cifar_tune.plan.config import Plan
from cifar_tune.plan.rungs import exchange_epochs
from cifar_tune.plan.space import Dimension, Space, Value
from cifar_tune.plan.task import task_of
from cifar_tune.record.recorder import Recorder
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial

log = logging.getLogger(__name__)

FACTORS = (0.8, 1.2)  # the paper's
REDRAW_PROBABILITY = 0.25  # as in Ray's PopulationBasedTraining
TRUNCATION = 0.25  # part of the members that is replaced, as in Ray's; the paper has 0.2
STEP_FROM_ZERO = 0.1  # of the range: no factor moves a value of 0


@dataclass(frozen=True, kw_only=True)
class Clone:
    """A member that goes on with another's weights, and with values near the other's."""

    trial_id: str
    source: str
    values: dict[str, Value]


def is_exchange(plan: Plan, epoch: int) -> bool:
    """Whether the population exchanges after this epoch; never with another scheduler than pbt."""
    return epoch in exchange_epochs(plan)


def due_exchange(results: Results) -> int | None:
    """The epoch of the exchange that can be held now, or none.

    It can when the whole population has been created, and every member that goes on has come so
    far: those that failed or diverged are not waited for.
    """
    plan, held = results.plan, set(results.exchanges)
    epoch = next((epoch for epoch in exchange_epochs(plan) if epoch not in held), None)
    if epoch is None or len(results.trials) < plan.search.num_samples:
        return None
    members = results.unfinished()
    return epoch if members and all(epoch in member.results for member in members) else None


def waits(results: Results, trial: Trial) -> bool:
    """Whether the trial stands at an exchange that was not held yet."""
    return is_exchange(results.plan, trial.epochs) and trial.epochs not in results.exchanges


def clones(results: Results, epoch: int) -> list[Clone]:
    """The exchange at an epoch: each of the worst quarter takes from one of the best quarter.

    A quarter is rounded up and at most half: of two or three members one, of a single one none.
    """
    ranked = sorted(results.unfinished(), key=lambda member: _rank(results, member, epoch))
    count = min(math.ceil(TRUNCATION * len(ranked)), len(ranked) // 2)
    space, best = results.plan.search.parsed_space, ranked[:count]
    exchanged = []
    for loser in ranked[len(ranked) - count :]:
        rng = random.Random(f"{results.plan.seed}:{epoch}:{loser.trial_id}")
        source = rng.choice(best)
        values = explore(space, source.values, rng, task_of(results.plan).mutable)
        exchanged.append(Clone(trial_id=loser.trial_id, source=source.trial_id, values=values))
    return exchanged


def _rank(results: Results, trial: Trial, epoch: int) -> tuple[float, int]:
    """The best first; equals by their age."""
    search = results.plan.search
    return -search.sign * trial.results[epoch][search.metric], trial.index


def explore(
    space: Space, values: Mapping[str, Value], rng: random.Random, mutable: Collection[str]
) -> dict[str, Value]:
    """Mutable values near the given ones; conditions are decided anew, in the space's order."""
    explored: dict[str, Value] = {}
    for dimension in space:
        if not dimension.active(explored):
            continue
        field = dimension.field
        if field not in values:  # a change before it made it active
            explored[field] = dimension.draw(rng)
        elif field in mutable:
            explored[field] = _mutate(dimension, values[field], rng)
        else:
            explored[field] = values[field]
    return explored


def _mutate(dimension: Dimension, value: Value, rng: random.Random) -> Value:
    if rng.random() < REDRAW_PROBABILITY:
        return dimension.draw(rng)
    if dimension.values:
        return _neighbour(dimension.values, value, rng)
    return _shift(dimension, value, rng)


def _neighbour(values: Sequence[Value], value: Value, rng: random.Random) -> Value:
    """The value before or after this one, in the order of the list."""
    place = values.index(value)
    beside = [*values[max(place - 1, 0) : place], *values[place + 1 : place + 2]]
    return rng.choice(beside) if beside else value


def _shift(dimension: Dimension, value: Any, rng: random.Random) -> Value:
    """A fifth more or less, within the bounds; a whole number by at least 1."""
    low, high = dimension.low, dimension.high
    up = rng.random() < 0.5
    if value == 0:
        up = value <= low or (up and value < high)  # away from a bound
        step = STEP_FROM_ZERO * (high - low)
        shifted = step if up else -step
    else:
        shifted = value * FACTORS[up]
    if dimension.kind not in ("int", "logint"):
        return min(max(shifted, low), high)
    whole = min(max(round(shifted), int(low)), int(high))
    if whole == value:  # a step that rounds to none, or at a bound
        up = value <= low or (shifted > value and value < high)
        whole += 1 if up else -1
    return whole


def hold_exchange(recorder: Recorder, epoch: int) -> None:
    """Give the losers their new weights and values; one event records them all."""
    trials = recorder.results.trials
    given: list[dict[str, object]] = []
    outdated = []
    for clone in clones(recorder.results, epoch):
        checkpoint = _hand_over(recorder, clone, epoch)
        if checkpoint is None:
            log.warning(
                "%s keeps its weights after epoch %d: %s has no whole checkpoint to give",
                clone.trial_id, epoch, clone.source,
            )  # fmt: skip
            continue
        given.append({**asdict(clone), "checkpoint": checkpoint})
        outdated.append(trials[clone.trial_id].inherited)
    recorder.write("exchanged", epoch=epoch, clones=given)
    for inherited in outdated:
        if inherited is not None:
            delete_folder(parent(locate(recorder.journal.folder, inherited[1])))


def _hand_over(recorder: Recorder, clone: Clone, epoch: int) -> str | None:
    """Copy the source's checkpoint; its place as the journal names it, or none if there is none.

    A copy, because each trial deletes its own files when it needs them no more.
    """
    folder = recorder.journal.folder
    path = recorder.results.trials[clone.source].checkpoints.get(epoch)
    if path is None or not is_whole(locate(folder, path)):
        return None
    storage, own = recorder.results.starts[-1].storage, f"{clone.trial_id}-from-{clone.source}"
    target = inside(storage, own, f"epoch-{epoch}", MODEL)
    copy(locate(folder, path), locate(folder, target))
    return target
