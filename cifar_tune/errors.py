"""Errors that a user is meant to read: value, rule and remedy, and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable

MOST_TOLD = 500  # characters of an error's own message


class CifarTuneError(Exception):
    """Base of all errors that are shown as one message, without a traceback."""

    exit_code = 2


class PlanError(CifarTuneError):
    """The plan, its YAML or a flag says something that can't be carried out."""


class ResourceError(CifarTuneError):
    """The machine or cluster does not have what a trial asks for."""


class DataError(CifarTuneError):
    """The dataset is missing, damaged, or too small for the splits asked of it."""


class ResultsError(CifarTuneError):
    """The results folder can't be written, is in use, or holds another search."""


class JournalError(ResultsError):
    """The journal is damaged in a place where a crash can't have damaged it."""


class NoUsableTrialError(CifarTuneError):
    """Every trial failed or diverged, so there is no winner."""

    exit_code = 4


class EndedError(CifarTuneError):
    """The search ended before it was done, and nobody had asked for that."""

    exit_code = 1


class StorageError(CifarTuneError):
    """The storage is full or gone; what was acknowledged before is kept."""

    exit_code = 5


def one_line(error: BaseException) -> str:
    """An error's own message, cut off where it is long."""
    return " ".join(str(error).split())[:MOST_TOLD]


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def exit_code_of(command: Callable[[], int]) -> int:
    """Run a command; show a `CifarTuneError` as one message on stderr and return its exit code."""
    try:
        return command()
    except CifarTuneError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
