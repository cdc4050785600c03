"""What a search that goes on may change: where and how it runs, and how far it grows."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from cifar_tune.errors import PlanError
from cifar_tune.plan import preflight
from cifar_tune.plan.config import Plan
from cifar_tune.plan.flags import FREE_FIELDS, FREE_SECTIONS
from cifar_tune.plan.load import plan_from
from cifar_tune.plan.task import task_of

PLACE = {"name", "out"}  # the folder itself is the search, wherever it was moved
GROWING = {"search.num_samples", "train.max_epochs"}  # what `extend` is for


def with_recorded_methods(wanted: Plan, recorded: Plan) -> Plan:
    """The wanted plan, with the recorded searcher and scheduler where it names none."""
    unnamed = {"searcher", "scheduler"} - wanted.search.model_fields_set
    methods = {name: getattr(recorded.search, name) for name in unnamed}
    return wanted.model_copy(update={"search": wanted.search.model_copy(update=methods)})


def grown(recorded: Plan, wanted: Plan) -> Plan:
    """The recorded plan with the wanted number of trials and epochs.

    Raises:
        PlanError: as `extend_search`.
    """
    check_same_plan(recorded, wanted, wanted, free=GROWING)
    samples, epochs = wanted.search.num_samples, wanted.train.max_epochs
    for field, old, new in (
        ("search.num_samples", recorded.search.num_samples, samples),
        ("train.max_epochs", recorded.train.max_epochs, epochs),
    ):
        if new < old:
            raise PlanError(f"{field} is {new}, below the search's {old}; a search can only grow")
    if recorded.search.scheduler == "pbt" and samples > recorded.search.num_samples:
        raise PlanError(
            f"--num-samples is {samples}, and the population of this pbt search has"
            f" {recorded.search.num_samples}; it is settled at the start: give --max-epochs"
        )
    plan = plan_from(
        {
            **recorded.model_dump(mode="json"),
            "search": {**recorded.search.model_dump(mode="json"), "num_samples": samples},
            "train": {**recorded.train.model_dump(mode="json"), "max_epochs": epochs},
        },
        "the extended plan",
    )
    more = preflight.number_of_trials(plan) > recorded.search.num_samples
    if not more and epochs == recorded.train.max_epochs:
        raise PlanError(
            "nothing would grow; give --num-samples +20 or a larger --max-epochs"
            + ("" if samples == recorded.search.num_samples else ": the space has no more points")
        )
    return plan


def check_same_plan(
    recorded: Plan, wanted: Plan, settled: Plan, *, free: Collection[str] = ()
) -> None:
    """Refuse to go on with a search under a plan that would make its trials incomparable.

    Args:
        wanted: the plan as given now; what is `auto` in it is no wish.
        settled: the same, settled on this machine.
        free: fields that may differ besides the `FREE_FIELDS`.

    Raises:
        PlanError: with each difference.
    """
    old, new, given = (_flatten(plan) for plan in (recorded, settled, wanted))
    unasked = FREE_FIELDS | task_of(recorded).free | PLACE | set(free)
    differences = [
        f"{field} was {old.get(field)!r} and is now {new.get(field)!r}"
        for field in {**old, **new}
        if field not in unasked
        and field.partition(".")[0] not in FREE_SECTIONS
        and given.get(field) != "auto"
        and old.get(field) != new.get(field)
    ]
    if differences:
        raise PlanError(
            f"the search can't go on under another plan: {'; '.join(differences)}; give the old"
            " values, or start a new search under another --name; more trials or epochs come with"
            " cifar-tune extend"
        )


def _flatten(plan: Plan) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in plan.model_dump().items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    return flat


def with_changes(recorded: Plan, wanted: Plan) -> Plan:
    """The recorded plan with the wanted plan's `FREE_SECTIONS` and `FREE_FIELDS`."""
    values, new = recorded.model_dump(mode="json"), wanted.model_dump(mode="json")
    for name in FREE_SECTIONS:
        values[name] = new[name]
    for field in FREE_FIELDS | task_of(recorded).free:
        section, _, key = field.partition(".")
        values[section][key] = new[section][key]
    return plan_from(values, "the recorded plan")
