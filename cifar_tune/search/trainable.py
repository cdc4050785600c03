"""What runs in a trial's process: one `fit()`, whose epochs are reported to Ray with checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from ray import tune
from ray.tune.integration.pytorch_lightning import TuneReportCheckpointCallback

from cifar_tune.config import Plan
from cifar_tune.data import SearchData
from cifar_tune.tracking import trial_trackers

CHECKPOINT_NAME = "model.ckpt"
REPORTED = (
    "epoch", "val_loss", "val_accuracy", "train_loss", "best_val_accuracy", "lr",
    "images_per_second", "gpu_peak_bytes",
)  # fmt: skip
CLOCK = ("first_step_at", "reported_at")

Objective = Callable[..., Any]
"""`fit`, or what a test or benchmark puts in its place, with `fit`'s parameters. It finds the
`EpochReport` as the last of its callbacks and may call its `report` itself."""


class EpochReport(TuneReportCheckpointCallback):  # type: ignore[misc]
    """Reports an epoch when its validation ends, with a checkpoint where the plan wants one.

    Training and validation figures come from the module's `epoch_metrics`; they are plain floats,
    because Ray's own way of reading `trainer.callback_metrics` has no training figures yet at this
    point of an epoch.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(filename=CHECKPOINT_NAME, on="validation_end")
        self._every_epochs = plan.search.checkpoint_every_epochs
        self._max_epochs = plan.train.max_epochs
        self._search = plan.search
        self._best: float | None = None
        self._wants_checkpoint = False
        self.first_step_at: float | None = None

    def on_train_batch_start(self, *_: Any) -> None:
        """Notes when training really begins."""
        if self.first_step_at is None:
            self.first_step_at = time.time()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports; this may be the last that runs in the trial, since Ray ends it from inside."""
        if trainer.sanity_checking:
            return
        metrics: Mapping[str, float] = pl_module.epoch_metrics  # type: ignore[assignment]
        diverged = bool(pl_module.diverged)
        self._wants_checkpoint = not diverged and self._is_due(metrics)
        with self._get_checkpoint(trainer) as checkpoint:
            self.report(metrics, diverged=diverged, checkpoint=checkpoint)

    def report(
        self,
        metrics: Mapping[str, float],
        *,
        diverged: bool = False,
        checkpoint: tune.Checkpoint | None = None,
    ) -> None:
        """Report one epoch; returns when the driver has it on disk and wants another.

        Args:
            metrics: at least `epoch`, `val_loss` and `val_accuracy`, all finite.
            diverged: whether this is the last, with accuracy 0 and loss 1e9.
            checkpoint: what the trial can go on from.
        """
        now = time.time()
        values = {name: float(metrics[name]) for name in REPORTED if name in metrics}
        clock = {"first_step_at": self.first_step_at or now, "reported_at": now}
        tune.report(
            {**values, **clock, "epoch": int(metrics["epoch"]), "diverged": diverged},
            checkpoint=checkpoint,
        )

    def _is_due(self, metrics: Mapping[str, float]) -> bool:
        """Every so many epochs, at the last, and whenever it is the trial's best so far.

        The last makes sure that the epoch a trial is judged by has a checkpoint.
        """
        sign = 1 if self._search.mode == "max" else -1
        value = sign * metrics[self._search.metric]
        improved = self._best is None or value > self._best
        self._best = value if improved else self._best
        epoch = int(metrics["epoch"])
        return improved or epoch % self._every_epochs == 0 or epoch == self._max_epochs

    @contextmanager
    def _get_checkpoint(self, trainer: Trainer) -> Iterator[tune.Checkpoint | None]:
        if not self._wants_checkpoint:
            yield None
            return
        with super()._get_checkpoint(trainer) as checkpoint:
            yield checkpoint


def train_trial(
    config: dict[str, Any], *, objective: Objective, plan: Plan, folder: Path, data: SearchData
) -> None:
    """Ray's function trainable.

    Args:
        config: `trial_id`, `index`, `values` (searched fields), `checkpoints` (to go on from, the
            newest first).
        objective: `fit` or its stand-in.
        plan: the settled plan.
        folder: the results folder, for trackers.
        data: the arrays of the search, read-only and shared by all trials of a node.
    """
    _reset_process(plan)
    trackers = trial_trackers(plan, folder, config["trial_id"], config["values"])
    callbacks: list[Callback] = [*trackers, EpochReport(plan)]
    run = plan.run(config["values"], config["index"])
    objective(run, data, callbacks=callbacks, resume_from=_newest_checkpoint(config["checkpoints"]))


def _reset_process(plan: Plan) -> None:
    """What an earlier trial in this process may have left behind; `fit` sets seeds and threads."""
    gpus = plan.resources.gpus_per_trial
    if torch.cuda.is_available() and gpus != "auto" and gpus > 0:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        # Ray's share of a GPU is bookkeeping; this makes it a limit.
        torch.cuda.set_per_process_memory_fraction(min(1.0, gpus))


def _newest_checkpoint(recorded: list[str]) -> Path | None:
    """The newest that loads: Ray's, if it restarts the trial after a crash, else the journal's."""
    restarted = tune.get_checkpoint()
    candidates = [Path(path) for path in recorded]
    if restarted is not None:
        candidates.insert(0, Path(restarted.path) / CHECKPOINT_NAME)
    return next((path for path in candidates if _loads(path)), None)


def _loads(path: Path) -> bool:
    try:
        torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:  # whatever a damaged file makes torch raise
        print(f"checkpoint {path} can't be read ({error}); trying an older one")
        return False
    return True
