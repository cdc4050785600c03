"""What the journal's events must look like to be used: a results folder may be a stranger's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

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
File = Annotated[str, Field(pattern=r"^[\w-][\w.-]*(/[\w-][\w.-]*)*$")]  # leads nowhere else
Location = Annotated[str, Field(min_length=1)]
Status = Literal[STATUSES]  # type: ignore[valid-type]
Plain = dict[str, Any]
Values = dict[str, Value]


class _Metrics(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    __pydantic_extra__: dict[str, Finite]
    epoch: Annotated[float, Field(ge=1, lt=1e9)]
    first_step_at: Finite
    reported_at: Finite


def _shape(**fields: Any) -> Any:
    """What has these fields, each a type, or a type and its default; others are passed over."""
    given: Any = {name: of if isinstance(of, tuple) else (of, ...) for name, of in fields.items()}
    return create_model("Shape", __config__=ConfigDict(strict=True, extra="ignore"), **given)


def _list_of(shape: Any, *, least: int = 0) -> Any:
    return Annotated[list[shape], Field(min_length=least)]


DATA = _shape(
    kind=(str, ""), source=(str, ""), fingerprint=(str | None, None), notes=(list[str], []),
    train=(Count, 0), val=(Count, 0), confirm=(Count, 0), test=(Count, 0),
)  # fmt: skip
KNOWN_TRIAL = _shape(values=Values, status=Status, results=list[Pair])
CLONE = _shape(trial_id=Name, values=Values, checkpoint=Location)
JUDGED = {"trial_id": Name, "epoch": Number}
MODEL = _shape(file=File, kind=str, sha256=str, seed=Count | None, score=Finite, ci95=Pair | None)

SHAPES: dict[str, type[BaseModel]] = {
    "search": _shape(version=Number, plan=Plain, data=DATA, environment=Plain),
    "environment": _shape(environment=Plain),
    "start": _shape(number=Number, slots=Number, plan=Plain, storage=(Location, "x")),
    "slots_changed": _shape(slots=Count),
    "started_from": _shape(source=str, points=list[Values], trials=_list_of(KNOWN_TRIAL)),
    "extended": _shape(plan=Plain),
    "trial_created": _shape(trial_id=Name, index=Count, seed=Count, values=Values),
    "trial_started": _shape(trial_id=Name),
    "result": _shape(
        trial_id=Name, metrics=_Metrics, checkpoint=Location | None, done=bool, diverged=bool,
        earlier=(_list_of(_shape(epoch=Number, checkpoint=Location)), []),
    ),
    "checkpoints_dropped": _shape(trial_id=Name, epochs=list[Number], from_epoch=(Count, 0)),
    "checkpoints_lost": _shape(trial_id=Name, epochs=list[Number], from_epoch=(Count, 0)),
    "trial_ended": _shape(trial_id=Name, status=Status, reason=str, kind=(str, "")),
    "measured": _shape(trial_id=Name, figures=dict[str, Finite]),
    "trial_retried": _shape(trial_id=Name, kind=(str, ""), reason=(str, "")),
    "exchanged": _shape(epoch=Number, clones=_list_of(CLONE)),
    "finals_began": _shape(
        number=Number, asked=Plain, seeds=Count,
        candidates=_list_of(_shape(**JUDGED), least=1),
    ),
    "confirmed": _shape(
        **JUDGED, number=Number, optimism=Finite | None, confirm=_shape(statement=str) | None
    ),
    "test_opened": _shape(
        **JUDGED, models=(_list_of(_shape(file=File), least=1), [])
    ),
    "test_scored": _shape(
        **JUDGED, number=(Count, 0), seeds=list[Count], mean=Finite, std=(Finite | None, None),
        ci95=(Pair | None, None), lost=(dict[str, Count] | None, None), model=(MODEL | None, None),
    ),
    "handed_over": _shape(number=Number, model=MODEL),
}  # fmt: skip


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
    """A JournalError if a journal is of a later version, with both versions."""
    if event["version"] > VERSION:
        raise JournalError(
            f"{folder} was written by a later cifar_tune (journal version {event['version']}, this"
            f" one reads {VERSION}); upgrade"
        )
