"""Weights & Biases, from inside a trial's process; the only importer of wandb."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from cifar_tune.config import Plan, TrackingConfig
from cifar_tune.spaces import Value

log = logging.getLogger(__name__)


def trial_trackers(
    plan: Plan, folder: Path, trial_id: str, values: Mapping[str, Value]
) -> list[Callback]:
    """The callbacks that track one trial from inside its process; the list may be empty."""
    if plan.tracking.wandb is None:
        return []
    return [WandbRun(plan.tracking, folder, trial_id, values)]


class WandbRun(Callback):
    """One Weights & Biases run for a trial, which never costs a result.

    It works offline where there is no key (`wandb sync` sends the files later). The key is read
    from the environment or wandb's login by wandb itself; it is never in the plan or a file of
    ours. Every epoch logs all final figures, because the report after it may end the trial.
    """

    def __init__(
        self,
        config: TrackingConfig,
        folder: Path,
        trial_id: str,
        values: Mapping[str, Value],
    ) -> None:
        self._config = config
        self._search_name = folder.name
        self._trial_id = trial_id
        self._values = dict(values)
        self._folder = folder
        self._run: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the run; where that fails, say so once and go on without."""
        try:
            self._run = self._open(pl_module)
        except Exception as error:  # a tracker must not cost a result, whatever it raises
            log.warning("wandb is off for trial %s: %s", self._trial_id, error)

    def _open(self, pl_module: LightningModule) -> Any:
        import wandb

        (self._folder / "wandb").mkdir(parents=True, exist_ok=True)
        if "WANDB_MODE" not in os.environ and not wandb.login(prompt=False, verify=False):
            # The argument `mode` of init() does not skip wandb's check for a key; this does, once
            # wandb reads its settings anew.
            os.environ["WANDB_MODE"] = "offline"
            wandb.teardown()
        run = wandb.init(
            project=self._config.wandb,
            id=f"{self._search_name}-{self._trial_id}",
            name=self._trial_id,
            group=self._search_name,
            config=self._values,
            resume="allow",
            reinit="finish_previous",
            dir=str(self._folder),
            settings=wandb.Settings(silent=True, init_timeout=10, console="off"),
        )
        if self._config.watch:
            # Counted from 0 for each trial: wandb counts on in a process that is used again, and
            # would name the second trial's gradients otherwise than the first's.
            run.watch(pl_module, log="gradients", log_freq=100, idx=0)
        return run

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch's figures."""
        metrics: Mapping[str, float] = pl_module.epoch_metrics  # type: ignore[assignment]
        self._safely("log", dict(metrics), step=int(metrics["epoch"]))

    def on_exception(self, *_: Any) -> None:
        """Ray ends a trial by an exception in the last report."""
        self._close()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The training ended by itself."""
        self._close()

    def _close(self) -> None:
        if self._config.watch:
            self._safely("unwatch")
        self._safely("finish")
        self._run = None

    def _safely(self, method: str, *args: Any, **kwargs: Any) -> None:
        if self._run is None:
            return
        try:
            getattr(self._run, method)(*args, **kwargs)
        except Exception as error:  # as above
            log.warning("wandb is off for trial %s: %s", self._trial_id, error)
            self._run = None
