"""Trains one configuration with several workers on this node: this process and children of it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_tune.errors import CifarTuneError, PlanError
from cifar_tune.plan.task import task_of
from cifar_tune.process import current_directory
from cifar_tune.train.fit import HERE, FitResult, fit

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from cifar_tune.train.parallel import Member

# Imported once in a process that then forks workers in milliseconds, also for later trials. Ray is
# there because a child runs its parent's main file, and a trial's parent is Ray's.
PRELOADED = ("ray", "cifar_tune.train.parallel")
TOLD_SECONDS = 5.0  # for a worker's own error, when this process has noticed that it is gone
NOTICED_SECONDS = 30.0  # for this process to notice it: nccl may wait for ever


class WorkerError(RuntimeError):
    """A worker ended before its training did; the message holds its own error."""


def fit_with_workers(
    run: Any,
    part: Any,
    *,
    workers: int,
    callbacks: Sequence[Callback] = (),
    resume_from: Path | None = None,
    folder: Path = HERE,
) -> FitResult:
    """As `train.fit`, with `workers` processes that share every batch; on GPUs, one has one each.

    This process is worker 0: the only one with callbacks. However it ends, also by SystemExit in
    a callback or by SIGKILL, the others end at once.

    Raises:
        WorkerError: another worker failed.
        PlanError, DataError: as `train.fit`.
    """
    if workers == 1:
        return fit(run, part, callbacks=callbacks, resume_from=resume_from, folder=folder)
    _check_gpus(workers)
    from cifar_tune.train.parallel import Member

    with tempfile.TemporaryDirectory(prefix="cifar_tune_") as place:
        meeting = str(Path(place, "meeting"))
        members = [Member(rank=r, workers=workers, meeting=meeting) for r in range(workers)]
        given: dict[str, Any] = {"resume_from": resume_from, "folder": folder}
        others = _Others(members[1:], run, part, given)
        try:
            train = partial(fit, run, part, callbacks=callbacks, member=members[0], **given)
            return others.leave_when_lost(train)
        except (CifarTuneError, WorkerError):
            raise
        except Exception as error:
            told = others.error() if _tells_of_others(error) else None
            if told is None:
                raise
            raise WorkerError(told) from error
        finally:
            others.end()


def _tells_of_others(error: Exception) -> bool:
    """Whether worker 0 fails for want of another; if not, the others fail for want of it."""
    import torch

    # gloo has no error of its own, but its name is in the text.
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)


def _check_gpus(workers: int) -> None:
    import torch

    if torch.cuda.is_available() and torch.cuda.device_count() < workers:
        raise PlanError(
            f"{workers} workers need a GPU each, and this process sees"
            f" {torch.cuda.device_count()}; give as many with --gpus-per-trial {workers}"
        )


class _Others:
    """The processes of all workers but this one."""

    def __init__(
        self,
        members: Sequence[Member],
        run: Any,
        part: Any,
        given: Mapping[str, Any],
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        preloaded = [*PRELOADED, *task_of(run).modules]
        context.set_forkserver_preload(preloaded)
        self._ended, self._woken = threading.Event(), threading.Event()
        self._workers = []
        place = current_directory()  # a child of the server begins elsewhere
        for member in members:
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(member, run, part, given, theirs, place), daemon=True
            )
            process.start()
            theirs.close()  # or its end would not show here
            self._workers.append((process, ours))
        threading.Thread(target=self._watch, daemon=True).start()

    def error(self) -> str | None:
        """What a worker that ended too early said of it; none if all go on."""
        wait([told for one, link in self._workers for told in (one.sentinel, link)], TOLD_SECONDS)
        for rank, (process, link) in enumerate(self._workers, start=1):
            try:
                told = link.recv() if link.poll() else None
            except EOFError:  # it was killed
                told = None
            process.join(TOLD_SECONDS if told else 0)
            if told is not None:
                return f"worker {rank} failed, and this is its error:\n{told}"
            if process.exitcode:
                return f"worker {rank} died with exit code {process.exitcode}"
        return None

    def end(self) -> None:
        """Kill them: one may wait in a collective for this process, which will never come."""
        self._ended.set()
        for process, _ in self._workers:
            process.kill()
        for process, link in self._workers:
            process.join()
            link.close()

    def _watch(self) -> None:
        """Say so if a worker is gone and the training of this process does not end by that.

        gloo notices a peer's end by its closed sockets, if no child of the peer holds them; nccl
        may wait for ever.
        """
        left = {process.sentinel: process for process, _ in self._workers}
        while left and not self._ended.is_set():
            for sentinel in wait(list(left), timeout=1.0):
                process = left.pop(sentinel)  # type: ignore[arg-type]
                if process.exitcode and not self._ended.wait(NOTICED_SECONDS):
                    self._woken.set()

    def leave_when_lost(self, train: Callable[[], FitResult]) -> FitResult:
        """Train in a thread, which is left behind where it waits for a worker that is gone.

        Nothing brings a thread out of gloo's collectives, and its process ends with the trial.

        Raises:
            WorkerError: it was left behind.
        """
        came: list[FitResult] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                came.append(train())
            except BaseException as error:  # a report ends a trial by SystemExit
                failed.append(error)
            self._woken.set()

        threading.Thread(target=run, daemon=True).start()
        self._woken.wait()
        if failed:
            raise failed[0]
        if not came:
            raise WorkerError(self.error() or "a worker of this training is gone")
        return came[0]


def _work(
    member: Member,
    run: Any,
    part: Any,
    given: Mapping[str, Any],
    link: Connection,
    place: str | None,
) -> None:
    """Train as a worker that is not worker 0; what runs in its process."""
    if place is not None:
        os.chdir(place)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # worker 0 decides
    threading.Thread(target=_end_with, args=(link,), daemon=True).start()
    try:
        fit(run, part, member=member, **given)
    except BaseException:
        link.send(traceback.format_exc())
        link.close()
        os._exit(1)


def _end_with(link: Any) -> None:
    """End this process when worker 0's does, however that happens: nothing else comes here."""
    with contextlib.suppress(EOFError, OSError):
        link.recv_bytes()
    os._exit(1)
