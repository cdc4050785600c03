"""One start of a search, or of a stage of its finals: all that its parts work on and with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_tune.plan.config import Plan
from cifar_tune.plan.machine import Machine, Share
from cifar_tune.plan.task import Say
from cifar_tune.record.recorder import Recorder
from cifar_tune.record.results import Results
from cifar_tune.search.trainable import Objective

Watch = Callable[[Recorder, str, Sequence[str]], AbstractContextManager[None]]


@dataclass(frozen=True, kw_only=True)
class Session:
    """What one start of a search works on and with.

    Attributes:
        recorder: of its folder, the plan settled for this machine.
        data: a `plan.task.Data`, as the task opened it.
        machine, share: where trainings run, and what each gets.
        objective: what trains.
        ray: Ray starts in it when it is needed, and ends with it.
        say: shows a line.
        resume_command: goes on with the search, whatever stops it.
        watch: shows what a stage's recorder writes, under a title and with these names of its
            trainings, while its context lasts.
    """

    recorder: Recorder
    data: Any
    machine: Machine
    share: Share
    objective: Objective
    ray: ExitStack
    say: Say = lambda _: None
    resume_command: str = ""
    watch: Watch = lambda *_: nullcontext()

    @property
    def results(self) -> Results:
        return self.recorder.results

    @property
    def plan(self) -> Plan:
        return self.results.plan

    @property
    def folder(self) -> Path:
        return self.recorder.journal.folder
