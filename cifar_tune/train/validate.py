"""Runs a module's own validation over any loader of its data, without a training."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from cifar_tune.plan.task import task_of
from cifar_tune.train.fit import (
    HERE,
    alone,
    make_trainer,
    on_this_machine,
    placed,
    quiet_lightning,
)
from cifar_tune.train.numerics import numerics

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lightning.pytorch import LightningDataModule, LightningModule, Trainer

    Owner = LightningModule | LightningDataModule


def validate(
    run: Any,
    part: Any,
    checkpoint: Path,
    loader: str,
    also: Callable[[Trainer, LightningModule, Any], Any] = lambda *_: None,
) -> tuple[dict[str, float], Any]:
    """What a module's `validation_step` logs over another loader.

    Args:
        run, part: as `fit` gets them.
        checkpoint: of the module.
        loader: the name of the hook that gives it, as `test_dataloader`, of the data module or of
            the module itself.
        also: is called afterwards with the trainer, the module and the loaders.

    Returns:
        The figures by their names, and what `also` gave.
    """
    run, gpu = on_this_machine(run)
    with quiet_lightning(), numerics(run, gpu), warnings.catch_warnings():
        # The callbacks of the training are left out on purpose.
        warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`")
        task = task_of(run)
        module, datamodule = task.build(run, part, fresh=False)
        whole = {"limit_val_batches": 1.0, "overfit_batches": 0.0, "callbacks": []}
        options = {**placed(task.trainer_options(run, HERE), alone()), **whole}
        trainer = make_trainer(run, accelerator="gpu" if gpu else "cpu", **options)
        _swap(datamodule or module, loader)
        trainer.validate(
            module,
            datamodule=datamodule,
            ckpt_path=checkpoint,  # after setup, which may make layers
            verbose=False,
            weights_only=True,
        )
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        return figures, also(trainer, module, trainer.val_dataloaders)


def _swap(owner: Owner, loader: str) -> None:
    """Let validation read another loader; what other setups make is there for it.

    Many data modules know the stages fit and test alone.
    """
    setup = owner.setup

    def every(stage: str) -> None:  # noqa: ARG001
        setup("fit")
        if loader == "test_dataloader":
            setup("test")

    owner.setup = every  # type: ignore[method-assign]
    owner.val_dataloader = getattr(owner, loader)  # type: ignore[method-assign]
