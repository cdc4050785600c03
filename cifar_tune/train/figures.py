"""What an epoch of a training came to: its figures, and whether they make sense."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cifar_tune.plan.config import SearchConfig
from cifar_tune.plan.objectives import PARAMETERS

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


def figures_of(trainer: Trainer, module: LightningModule) -> dict[str, float]:
    """The figures of the epoch that was validated just now, with `epoch`, from 1.

    A module that keeps them itself has `epoch_metrics`, training figures included; of any other
    they are the scalars that the validation logged; `trainer.callback_metrics` also has those of
    the training an epoch before.
    """
    own = getattr(module, "epoch_metrics", None)
    if isinstance(own, dict) and "epoch" in own:
        return dict(own)
    return {**logged_by(trainer), "epoch": float(trainer.current_epoch + 1)}


def asked_figures(
    trainer: Trainer, module: LightningModule, search: SearchConfig
) -> dict[str, float]:
    """As `figures_of`, with the number of parameters if that is among the search's objectives."""
    figures = figures_of(trainer, module)
    if any(goal.metric == PARAMETERS for goal in search.goals):
        figures.setdefault(PARAMETERS, float(sum(one.numel() for one in module.parameters())))
    return figures


def logged_by(trainer: Trainer) -> dict[str, float]:
    """What the newest validation of a training logged, by name."""
    results = trainer.fit_loop.epoch_loop.val_loop._results
    logged = {item.meta.name for item in results.values()}
    return {
        name: float(value)
        for name, value in trainer.callback_metrics.items()
        if name.partition("/dataloader_idx_")[0].removesuffix("_epoch") in logged or name in logged
    }


def is_last_of_epoch(trainer: Trainer) -> bool:
    """Whether no other validation comes in this epoch (Trainer's `val_check_interval`)."""
    every, batches = trainer.val_check_batch, trainer.num_training_batches
    if every is None or not math.isfinite(every) or not math.isfinite(batches):
        return True
    done = trainer.fit_loop.epoch_loop.batch_idx + 1
    return trainer.check_val_every_n_epoch is None or done + every > batches


def is_diverged(
    module: LightningModule, metrics: Mapping[str, float], judged_by: str | None = None
) -> bool:
    """Whether a training has stopped making sense: what the module itself saw, or a figure.

    Args:
        judged_by: the figure that matters; none: any.
    """
    figures = metrics.values() if judged_by is None else [metrics.get(judged_by, 0.0)]
    return getattr(module, "diverged", False) is True or not all(map(math.isfinite, figures))
