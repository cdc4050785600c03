"""Objectives that take the place of `fit`: they report at once, so that searches take seconds."""

from __future__ import annotations

import os
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
    folder = Path(os.environ["CIFAR_TUNE_TEST_NOTES"])
    (folder / f"{run.seed}-{os.getpid()}").touch()
    analytic(run, data, reporter, resume_from)


def failing(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """Every second seed fails in its first epoch, and says why."""
    if run.seed % 2:
        raise RuntimeError("the third bolt is loose")
    analytic(run, data, reporter, resume_from)


def always_failing(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """No trial is usable."""
    raise RuntimeError("no bolts at all")


def diverging(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """Odd seeds diverge in their second epoch, as `fit` reports it, having led before."""
    if run.seed % 2 == 0:
        analytic(run, data, reporter, resume_from)
        return
    reporter.report(figures(1, 0.99))
    reporter.report(figures(2, 0.0, 1e9), diverged=True)


def silent(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """Ends without a report."""


def slow(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """As `analytic`, a tenth of a second an epoch."""
    for epoch in range(1, run.train.max_epochs + 1):
        time.sleep(0.1)
        reporter.report(figures(epoch, curve(run, epoch)))
