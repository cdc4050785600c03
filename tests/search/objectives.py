"""Objectives that take the place of `fit`: they report at once, so that searches take seconds."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any


def figures(epoch: int, val_accuracy: float, val_loss: float | None = None) -> dict[str, float]:
    """What a trial reports, made up from its accuracy."""
    loss = 1.0 - val_accuracy if val_loss is None else val_loss
    return {
        "epoch": epoch, "val_accuracy": val_accuracy, "val_loss": loss, "train_loss": loss,
        "best_val_accuracy": val_accuracy, "lr": 0.1, "images_per_second": 1.0,
    }  # fmt: skip


def curve(run: Any, epoch: int) -> float:
    """An accuracy that grows with the epochs and is best at lr 0.1."""
    return 1.0 / (1.0 + abs(run.optim.lr - 0.1)) * epoch / (epoch + 1)


def analytic(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """Reports `curve` for every epoch, without a checkpoint."""
    for epoch in range(1, run.train.max_epochs + 1):
        reporter.report(figures(epoch, curve(run, epoch)))


def noted(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """As `analytic`; each trial leaves a file that names its process and settings."""
    (notes_folder() / f"{run.seed}-{os.getpid()}").touch()
    analytic(run, data, reporter, resume_from)


def failing(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """Every second seed fails in its first epoch, and says why."""
    if run.seed % 2:
        raise RuntimeError("the third bolt is loose")
    analytic(run, data, reporter, resume_from)


def worsening(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """Seed 1 fails; each later seed is worse than those before it, so that rungs stop it."""
    if run.seed == 1:
        raise RuntimeError("the third bolt is loose")
    for epoch in range(1, run.train.max_epochs + 1):
        reporter.report(figures(epoch, 1 / (run.seed + 2)))


def always_failing(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """No trial is usable."""
    raise RuntimeError("no bolts at all")


def diverging(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """Odd seeds diverge in their second epoch, as `fit` reports it, having led before."""
    if run.seed % 2 == 0:
        analytic(run, data, reporter, resume_from)
        return
    reporter.report(figures(1, 0.99))
    reporter.report({"epoch": 2.0, "val_loss": float("nan")}, diverged=True)


def silent(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """Ends without a report."""


def slow(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """As `analytic`, a tenth of a second an epoch."""
    for epoch in range(1, run.train.max_epochs + 1):
        time.sleep(0.1)
        reporter.report(figures(epoch, curve(run, epoch)))


def noting(folder: Path, objective: Any) -> Any:
    """An objective that has this folder for its notes, in whatever process it runs."""

    def with_notes(*arguments: Any) -> None:
        os.environ["CIFAR_TUNE_TEST_NOTES"] = str(folder)
        objective(*arguments)

    return with_notes


def notes_folder() -> Path:
    return Path(os.environ["CIFAR_TUNE_TEST_NOTES"])


def first_try(run: Any) -> bool:
    """Whether this seed runs for the first time."""
    mark = notes_folder() / f"tried-{run.seed}"
    tried = mark.exists()
    mark.touch()
    return not tried


def hungry(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """Seed 1 runs out of memory at its first try, for real; each notes who runs beside it."""
    import resource

    import numpy as np

    here = notes_folder() / f"running-{run.seed}"
    if run.seed == 1 and first_try(run):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
        np.ones(2**30)
    here.touch()
    beside = sorted(path.name for path in notes_folder().glob("running-*"))
    (notes_folder() / f"beside-{run.seed}").write_text(" ".join(beside))
    slow(run, data, reporter, resume_from)
    here.unlink()


def taking(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """Seed 1 takes memory at its first try, a little at a time, until it is stopped."""
    pieces, taken = int(os.environ["CIFAR_TUNE_TEST_BYTES"]) >> 26, []
    for _ in range(pieces if run.seed == 1 and first_try(run) else 0):
        taken.append(b"x" * 2**26)
        time.sleep(0.02)
    slow(run, data, reporter, resume_from)


def crashing(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """Seed 0 is killed after its first epoch at its first try, seed 1 always finds bad data."""
    from cifar_tune.errors import DataError

    if run.seed == 1:
        raise DataError("image 7 is damaged")
    if run.seed == 0 and first_try(run):
        reporter.report(figures(1, curve(run, 1)))
        os.kill(os.getpid(), signal.SIGKILL)
    analytic(run, data, reporter, resume_from)


def hanging(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """Seed 1 reports once and then never again."""
    if run.seed == 1:
        reporter.report(figures(1, curve(run, 1)))
        while True:
            time.sleep(1000)
    slow(run, data, reporter, resume_from)


def with_file(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """Goes on from its checkpoint, a zip file that counts epochs; says where each epoch came from."""
    import tempfile
    import zipfile

    from ray import tune

    before: list[str] = []
    if resume_from is not None:
        with zipfile.ZipFile(resume_from) as archive:
            before = archive.read("epochs").decode().split()
    for epoch in range(len(before) + 1, run.train.max_epochs + 1):
        time.sleep(0.02)
        before.append(f"{run.seed}:{run.optim.lr:.6g}")
        with tempfile.TemporaryDirectory() as folder:
            with zipfile.ZipFile(Path(folder) / "model.ckpt", "w") as archive:
                archive.writestr("epochs", " ".join(before))
            checkpoint = tune.Checkpoint.from_directory(folder)
            reporter.report(figures(epoch, curve(run, epoch)), checkpoint=checkpoint)


def slow_with_file(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """As `with_file`, a tenth of a second before every report."""
    report = reporter.report

    def later(*figures: Any, **more: Any) -> None:
        time.sleep(0.1)
        report(*figures, **more)

    reporter.report = later
    with_file(run, data, reporter, resume_from)


def saved(run: Any, data: Any, reporter: Any, resume_from: Path | None, *, models: Path) -> None:
    """Reports `curve`, and leaves a model that was trained before, one of two, as its checkpoint.

    So a trial leaves what `fit` leaves, and no process has to import torch for it.
    """
    import shutil
    import tempfile

    from ray import tune

    done = 0 if resume_from is None else int((resume_from.parent / "epoch").read_text())
    for epoch in range(done + 1, run.train.max_epochs + 1):
        time.sleep(0.1)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "epoch").write_text(str(epoch))
            shutil.copy(models / f"{run.seed % 2}.ckpt", Path(folder) / "model.ckpt")
            checkpoint = tune.Checkpoint.from_directory(folder)
            reporter.report(figures(epoch, curve(run, epoch)), checkpoint=checkpoint)


SCORES = (0.5, 0.3, 0.9, 0.1)  # by seed: at a rung, the second and the fourth are the worse half


def alive(pid: int) -> bool:
    """Whether a process runs: one that ended and was not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def noted_workers() -> list[int]:
    """Process ids of all workers that trials of `trained` had so far, but of their first."""
    return [int(path.name.removeprefix("worker-")) for path in notes_folder().glob("worker-*")]


def trained(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """Trains for real; early stopping goes by `SCORES`, and all workers are noted.

    In the first try of a seed named in a file, worker 0 (`kill-0-SEED`) or worker 1 is killed
    after the first report.
    """
    import multiprocessing

    from cifar_tune.search.trainable import fit_objective

    first, report = first_try(run), reporter.report
    for pid in filter(alive, noted_workers()):
        (notes_folder() / f"left-{pid}").touch()

    def note_and_report(metrics: Any, **more: Any) -> None:
        workers = [process.pid for process in multiprocessing.active_children()]
        for pid in workers:
            (notes_folder() / f"worker-{pid}").touch()
        report({**metrics, "val_accuracy": SCORES[run.seed]}, **more)
        for rank, pid in enumerate([os.getpid(), *workers]):
            if first and (notes_folder() / f"kill-{rank}-{run.seed}").exists():
                os.kill(pid, signal.SIGKILL)

    reporter.report = note_and_report
    fit_objective(run, data, reporter, resume_from)


def interrupt_itself() -> None:
    """Raises what Ctrl-C does, without a signal."""
    raise KeyboardInterrupt


def use_up() -> None:
    """Raises what ends a generator."""
    next(iter(()))
