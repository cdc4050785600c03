"""Runs a module's own validation over any loader of its data, without a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cifar_tune.plan.machine import read_machine, settle
from cifar_tune.plan.task import task_of
from cifar_tune.train.fit import HERE, alone, make_trainer, numerics, quiet_lightning

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.pytorch import LightningDataModule, LightningModule, Trainer

    Owner = LightningModule | LightningDataModule


def validate(
    run: Any,
    part: Any,
    weights: Any,
    loader: str,
    also: Callable[[Trainer, LightningModule, Any], Any] = lambda *_: None,
) -> tuple[dict[str, float], Any]:
    """What a module's `validation_step` logs over another loader.

    Args:
        run, part: as `fit` gets them.
        weights: the module's state.
        loader: the name of the hook that gives it, as `test_dataloader`, of the data module or of
            the module itself.
        also: is called afterwards with the trainer, the module and the loaders.

    Returns:
        The figures by their names, and what `also` gave.
    """
    import torch

    gpu = torch.cuda.is_available()
    machine = read_machine()
    run = run.model_copy(update={"train": settle(run.train, machine, cpus=machine.cpus, gpu=gpu)})
    with quiet_lightning(), numerics(run, gpu):
        task = task_of(run)
        module, datamodule = task.build(run, part, fresh=False)
        module.load_state_dict(weights)
        options = {**task.trainer_options(run, HERE), **alone(), "logger": False, "callbacks": []}
        trainer = make_trainer(run, accelerator="gpu" if gpu else "cpu", **options)
        _swap(datamodule or module, loader)
        trainer.validate(module, datamodule=datamodule, verbose=False)
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        return figures, also(trainer, module, trainer.val_dataloaders)


def _swap(owner: Owner, loader: str) -> None:
    """Let validation read another loader; what a test's setup makes is there for it."""
    if loader == "val_dataloader":
        return
    setup = owner.setup

    def both(stage: str) -> None:
        setup(stage)
        if loader == "test_dataloader":
            setup("test")

    owner.setup = both  # type: ignore[method-assign]
    owner.val_dataloader = getattr(owner, loader)  # type: ignore[method-assign]
