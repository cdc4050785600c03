"""The section of a plan that says what each trial gets, how many run at once, and where."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, field_validator

from cifar_tune.plan.section import (
    Auto,
    Flag,
    NotNegative,
    PositiveInt,
    Section,
    absolute_path,
)

URI = re.compile(r"[\w+.-]{2,}:/")  # or what is meant for one; a path has no colon there
PLACE = re.compile(r"[\w+.-]+://[^#?]*[^#?/][^#]*")  # a URI that names a place, in the whole of it
HEAD = re.compile(r"[^\s/:]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")  # HOST:PORT, or [IPv6]:PORT


class ResourcesConfig(Section):
    """What each trial gets, and how many run at once."""

    gpus_per_trial: Annotated[Auto | NotNegative, Flag("X")] = "auto"
    """GPUs of a trial: 0, a share below 1, or a whole number, one for each worker; auto: 1 if the
    machine has a GPU, else 0."""
    workers_per_trial: Annotated[Auto | PositiveInt, Flag("N")] = "auto"
    """Processes that train one trial together and share its batches; auto: one for each whole GPU,
    else 1."""
    cpus_per_trial: Annotated[Auto | PositiveInt, Flag("N")] = "auto"
    """CPUs of a trial, all its workers together; auto: 1 a worker without a GPU, else the CPUs
    divided among the trials."""
    max_concurrent: Annotated[Auto | PositiveInt, Flag("N")] = "auto"
    """Trials at once; auto: what the machine or cluster holds."""
    address: Annotated[str | None, Flag("ADDRESS")] = None
    """Ray cluster to join: `auto` or HOST:PORT of its head; none or `local`: this machine alone."""
    storage_path: Annotated[Annotated[str, Field(min_length=1)] | None, Flag("PATH")] = None
    """Where the trials' checkpoints lie: a path that all nodes share, or a URI such as s3://; none:
    the results folder, which must then be such a path."""

    @field_validator("storage_path")
    @classmethod
    def _check_storage_path(cls, path: str | None) -> Any:
        # What follows a # is no part of a place: all folders below it would be one and the same.
        if path is not None and URI.match(path) and not PLACE.fullmatch(path):
            raise ValueError(f"is {path!r}; a URI is SCHEME://PLACE, such as s3://bucket/folder")
        return absolute_path(path)

    @field_validator("address")
    @classmethod
    def _check_address(cls, address: str | None) -> str | None:
        if address in (None, "local"):
            return None
        if address != "auto" and not HEAD.fullmatch(address):
            raise ValueError(
                f"is {address!r}; give auto, or HOST:PORT of the cluster's head (6379 unless it was"
                " started with another --port), and give the command on a machine of the cluster"
            )
        return address
