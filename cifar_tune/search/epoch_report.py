"""The seam between Lightning and Ray: an epoch is reported when its validation ends."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from ray.tune import Checkpoint
from ray.tune.integration.pytorch_lightning import TuneReportCheckpointCallback
from torch import Tensor
from torch.utils._pytree import tree_map_only

from cifar_tune.files import BEST_SO_FAR, MODEL
from cifar_tune.plan.config import Plan
from cifar_tune.plan.rungs import pause_epochs, rung_epochs
from cifar_tune.train.figures import asked_figures, is_diverged, is_last_of_epoch


class EpochReport(TuneReportCheckpointCallback):
    """Reports an epoch when its validation ends, with a checkpoint where the plan wants one.

    The figures are those of `train.figures.asked_figures`: plain floats, and of a module that keeps
    them itself the training's too, which `trainer.callback_metrics` has not at this point.
    """

    def __init__(self, plan: Plan, begin: Callable[[], None], report: Callable[..., None]) -> None:
        """`begin` and `report` are those of the trial's `Reporter`."""
        super().__init__(filename=MODEL, on="validation_end")
        self._plan, self._begin, self._report = plan, begin, report
        self._pauses, self._rungs = pause_epochs(plan), rung_epochs(plan)
        self._best: float | None = None
        self._held: tuple[int, dict[str, Any]] | None = None  # the best epoch, not written yet
        self._written = time.monotonic()

    def on_train_batch_start(self, *_: Any) -> None:
        """Notes when training really begins."""
        self._begin()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports; this may be the last that runs in the trial, since Ray ends it from inside."""
        if trainer.sanity_checking:
            return
        metrics = asked_figures(trainer, pl_module, self._plan.search)
        if not is_last_of_epoch(trainer):
            return
        if is_diverged(pl_module, metrics, self._plan.search.metric):
            self._report(metrics, diverged=True)
            return
        epoch, improved = int(metrics["epoch"]), self._improves(metrics)
        if self._is_due(epoch, improved) or trainer.should_stop:
            with self._written_now(trainer, epoch, improved) as (checkpoint, best):
                self._report(metrics, checkpoint=checkpoint, best_epoch=best)
            return
        if improved:
            state = trainer._checkpoint_connector.dump_checkpoint()
            self._held = epoch, tree_map_only(Tensor, _copied, state)
        self._report(metrics)

    def _improves(self, metrics: Mapping[str, float]) -> bool:
        search = self._plan.search
        value = search.sign * metrics.get(search.metric, math.nan)
        improved = self._best is None or value > self._best
        self._best = value if improved else self._best
        return improved and search.winner_by == "best"

    def _is_due(self, epoch: int, improved: bool) -> bool:
        """Every so many epochs, at the last, and whenever the trial may be judged by this epoch.

        With `search.checkpoint_every_seconds` an epoch in between is held in memory if it is the
        best, and written with the next that is due; wherever a trial may be stopped, one is.
        """
        plan, search = self._plan, self._plan.search
        if epoch == plan.train.max_epochs or epoch in self._pauses:
            return True
        regular = epoch % search.checkpoint_every_epochs == 0
        if not search.spares_epochs:
            return regular or improved or search.winner_by == "last"
        waited = time.monotonic() - self._written
        return epoch in self._rungs or (regular and waited >= search.checkpoint_every_seconds)

    @contextmanager
    def _written_now(
        self, trainer: Trainer, epoch: int, improved: bool
    ) -> Iterator[tuple[Checkpoint | None, int | None]]:
        """A folder with this epoch's checkpoint and, if that is another and not written, the
        best's, whose epoch stands beside it."""
        held, self._held = None if improved else self._held, None
        with self._get_checkpoint(trainer) as checkpoint:
            if held is not None and checkpoint is not None:
                torch.save(held[1], os.path.join(checkpoint.path, BEST_SO_FAR))
            self._written = time.monotonic()
            yield checkpoint, held and held[0]


def _copied(value: Tensor) -> Tensor:
    return value.detach().to("cpu", copy=True)
