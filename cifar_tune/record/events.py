"""What the journal's events must look like to be used: a results folder may be a stranger's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cifar_tune.errors import JournalError
from cifar_tune.files import leads_out
from cifar_tune.plan.space import Value
from cifar_tune.record.journal import FILE_NAME, VERSION, Event
from cifar_tune.record.trials import STATUSES, Start

LATEST = 1e12  # Unix seconds, with room

Count = Annotated[int, Field(ge=0, lt=2**53)]
Number = Annotated[int, Field(ge=1, lt=2**53)]
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e300, le=1e300)]
Name = Annotated[str, Field(pattern=r"^[\w.-]{1,100}$")]
Pair = Annotated[list[Finite], Field(min_length=2, max_length=2)]
Values = dict[str, Value]


class _Shape(BaseModel):
    """The fields that are read; others are passed over."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _Data(_Shape):
    kind: str = ""
    source: str = ""
    fingerprint: str | None = None
    train: Count = 0
    val: Count = 0
    confirm: Count = 0
    test: Count = 0
    notes: list[str] = []


class _Search(_Shape):
    version: Number
    plan: dict[str, Any]
    data: _Data
    environment: dict[str, Any]


class _Environment(_Shape):
    environment: dict[str, Any]


class _Start(_Shape):
    number: Number
    slots: Number
    plan: dict[str, Any]
    storage: Annotated[str, Field(min_length=1)] = "x"


class _SlotsChanged(_Shape):
    slots: Count


class _KnownTrial(_Shape):
    values: Values
    status: Literal[STATUSES]  # type: ignore[valid-type]
    results: list[Pair]


class _StartedFrom(_Shape):
    source: str
    points: list[Values]
    trials: list[_KnownTrial]


class _Extended(_Shape):
    plan: dict[str, Any]


class _OfTrial(_Shape):
    trial_id: Name


class _TrialCreated(_OfTrial):
    index: Count
    seed: Count
    values: Values


class _Metrics(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    __pydantic_extra__: dict[str, Finite]
    epoch: Annotated[float, Field(ge=1, lt=1e9)]
    first_step_at: Finite
    reported_at: Finite


class _Result(_OfTrial):
    metrics: _Metrics
    checkpoint: Annotated[str, Field(min_length=1)] | None
    done: bool
    diverged: bool


class _Checkpoints(_OfTrial):
    epochs: list[Number]
    from_epoch: Count = 0


class _TrialEnded(_OfTrial):
    status: Literal[STATUSES]  # type: ignore[valid-type]
    reason: str
    kind: str = ""


class _TrialRetried(_OfTrial):
    kind: str = ""
    reason: str = ""


class _Clone(_OfTrial):
    values: Values
    checkpoint: Annotated[str, Field(min_length=1)]


class _Exchanged(_Shape):
    epoch: Number
    clones: list[_Clone]


class _Judged(_OfTrial):
    epoch: Number


class _FinalsBegan(_Shape):
    number: Number
    asked: dict[str, Any]
    candidates: Annotated[list[_Judged], Field(min_length=1)]
    seeds: Count


class _Comparison(_Shape):
    statement: str


class _Confirmed(_Judged):
    number: Number
    optimism: Finite | None
    confirm: _Comparison | None


class _File(_Shape):
    file: Annotated[str, Field(pattern=r"^[\w-][\w.-]*(/[\w-][\w.-]*)*$")]  # leads nowhere else


class _TestOpened(_Judged):
    models: Annotated[list[_File], Field(min_length=1)] = []


class _Model(_File):
    kind: str
    sha256: str
    seed: Count | None
    score: Finite
    ci95: Pair | None


class _TestScored(_Judged):
    number: Count = 0
    seeds: list[Count]
    mean: Finite
    std: Finite | None = None
    ci95: Pair | None = None
    lost: dict[str, Count] | None = None
    model: _Model | None = None


class _HandedOver(_Shape):
    number: Number
    model: _Model


SHAPES: dict[str, type[BaseModel]] = {
    "search": _Search,
    "environment": _Environment,
    "start": _Start,
    "slots_changed": _SlotsChanged,
    "started_from": _StartedFrom,
    "extended": _Extended,
    "trial_created": _TrialCreated,
    "trial_started": _OfTrial,
    "result": _Result,
    "checkpoints_dropped": _Checkpoints,
    "checkpoints_lost": _Checkpoints,
    "trial_ended": _TrialEnded,
    "trial_retried": _TrialRetried,
    "exchanged": _Exchanged,
    "finals_began": _FinalsBegan,
    "confirmed": _Confirmed,
    "test_opened": _TestOpened,
    "test_scored": _TestScored,
    "handed_over": _HandedOver,
}


def what_is_wrong(event: Event) -> str:
    """Why an event can't be used; empty if it can, or if it is one that is not known here."""
    shape, time = SHAPES.get(event["event"]), event.get("time")
    if not isinstance(time, (int, float)) or not abs(time) < LATEST:
        return f"time: {time!r:.40} is none"
    try:
        if shape is not None:
            shape.model_validate(event)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return ""


def not_ours(folder: Path, event: Event, wrong: str) -> JournalError:
    """The error for an event that no search of ours wrote."""
    return JournalError(
        f"{folder / FILE_NAME}:{event['seq']}: this {event['event']!s:.40} is none of ours"
        f" ({wrong:.300}); restore the file from a copy, or start a new search"
    )


def check_place(folder: Path, recorded: str, starts: Iterable[Start]) -> None:
    """Refuse a place outside of what a search has to itself: files there may be deleted.

    Raises:
        JournalError: it is one.
    """
    if leads_out(recorded, [start.storage for start in starts]):
        raise JournalError(
            f"{folder}: its journal names {recorded}, which lies outside of what a search has to"
            " itself; no search of ours wrote that: do not use this folder"
        )


def check_version(folder: Path, event: Event) -> None:
    """Refuse a journal of a later version.

    Raises:
        JournalError: with both versions.
    """
    if event["version"] > VERSION:
        raise JournalError(
            f"{folder} was written by a later cifar_tune (journal version {event['version']}, this"
            f" one reads {VERSION}); upgrade"
        )
