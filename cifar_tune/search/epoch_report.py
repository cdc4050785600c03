"""The seam between Lightning and Ray: an epoch is reported when its validation ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from ray.tune.integration.pytorch_lightning import TuneReportCheckpointCallback

from cifar_tune.files import MODEL
from cifar_tune.plan.config import Plan
from cifar_tune.plan.rungs import pause_epochs
from cifar_tune.train.figures import figures_of, is_diverged, is_last_of_epoch


class EpochReport(TuneReportCheckpointCallback):
    """Reports an epoch when its validation ends, with a checkpoint where the plan wants one.

    The figures are those of `train.fit.figures_of`: plain floats, and of a module that keeps them
    itself the training's too, which `trainer.callback_metrics` has not at this point of an epoch.
    """

    def __init__(self, plan: Plan, begin: Callable[[], None], report: Callable[..., None]) -> None:
        """`begin` and `report` are those of the trial's `Reporter`."""
        super().__init__(filename=MODEL, on="validation_end")
        self._plan, self._begin, self._report = plan, begin, report
        self._best: float | None = None

    def on_train_batch_start(self, *_: Any) -> None:
        """Notes when training really begins."""
        self._begin()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports; this may be the last that runs in the trial, since Ray ends it from inside."""
        if trainer.sanity_checking:
            return
        metrics = figures_of(trainer, pl_module)
        if not is_last_of_epoch(trainer):
            return
        diverged = is_diverged(pl_module, metrics, self._plan.search.metric)
        due = not diverged and self._is_due(metrics)
        with self._get_checkpoint(trainer) if due else nullcontext() as checkpoint:
            self._report(metrics, diverged=diverged, checkpoint=checkpoint)

    def _is_due(self, metrics: Mapping[str, float]) -> bool:
        """Every so many epochs, at the last, and whenever the trial may be judged by this epoch."""
        search, epoch = self._plan.search, int(metrics["epoch"])
        if search.winner_by == "last":
            return True  # any epoch may be the trial's last
        value = search.sign * metrics.get(search.metric, math.nan)
        improved = self._best is None or value > self._best
        self._best = value if improved else self._best
        due = epoch % search.checkpoint_every_epochs == 0 or epoch in pause_epochs(self._plan)
        return improved or due or epoch == self._plan.train.max_epochs
