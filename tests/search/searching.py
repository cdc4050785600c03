"""Runs searches through a real Ray with objectives that take no time, and goes on with them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from search import objectives

from cifar_tune.plan import preflight
from cifar_tune.plan.config import Plan
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.machine import read_machine
from cifar_tune.record.journal import Event, Journal, read_journal
from cifar_tune.record.recorder import Recorder
from cifar_tune.record.results import Results
from cifar_tune.search.run import run_search
from cifar_tune.search.session import Session
from cifar_tune.search.stop import StopRequest

MACHINE = replace(read_machine(), cpus=2, gpus=0)
Search = Callable[..., tuple[Results, StopRequest]]


def begin(recorder: Recorder, plan: Plan) -> None:
    """Write a search's first event."""
    values = plan.model_dump(mode="json")
    recorder.write("search", version=1, plan=values, data={}, environment={})


def unbroken_search(folder: Path, plan: Sequence[str]) -> Results:
    """A search with checkpoints that nothing interrupts."""
    results, stop = searching(folder)(*plan, objective=objectives.with_file)
    assert stop.reason is None
    return results


def searching(folder: Path) -> Search:
    """A function that runs, or goes on with, the search in `folder` under `--set` values.

    `retry` names trials to run again, and no others; `known` is what a search starts from.
    """

    def run(
        *overrides: str,
        objective: Any = objectives.analytic,
        retry: Sequence[str] | None = None,
        known: dict[str, Any] | None = None,
    ) -> tuple[Results, StopRequest]:
        folder.mkdir(exist_ok=True)
        with Journal(folder) as journal:
            recorder = Recorder(journal)
            forecast = preflight.check(load_plan(None, overrides), [MACHINE])
            if not recorder.results.events:
                begin(recorder, forecast.plan)
                if known is not None:
                    recorder.write("started_from", **known)
            elif forecast.plan != recorder.results.plan:
                recorder.results.plan = forecast.plan
            for name in retry or ():
                recorder.write("trial_retried", trial_id=name, kind="code", reason="", by_user=True)
            with ExitStack() as ray:
                session = Session(
                    recorder=recorder, data=None, machine=MACHINE, share=forecast.share,
                    objective=objective, ray=ray,
                )  # fmt: skip
                stop = run_search(session, None, only=retry)
            return recorder.results, stop

    return run


def events(results: Results, *names: str) -> list[Event]:
    """The recorded events of these names."""
    return read_journal(results.folder).of(*names)


@contextmanager
def stopped_after(folder: Path, reports: int) -> Iterator[None]:
    """What runs meanwhile gets SIGTERM when the search in `folder` has so many reports."""
    stopper = threading.Thread(target=stop_after, args=(folder, reports))
    stopper.start()
    yield
    stopper.join()


def stop_after(folder: Path, reports: int) -> None:
    """Send this process SIGTERM when the search in `folder` has so many reports."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        journal = folder / "journal.jsonl"
        if journal.exists() and len(read_journal(folder).of("result")) >= reports:
            break
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)
