"""One training of the user's own module: what stands around it so that it can be searched."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Mapping
from pathlib import Path
from socket import gethostname
from types import MethodType
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningCLI, LRSchedulerTypeTuple
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities.model_helpers import is_overridden

from cifar_tune.files import STATE_KEY
from cifar_tune.lit.classes import (
    KIND,
    find_class,
    make,
    make_by_path,
    make_trainer_arguments,
    trainer_arguments,
)
from cifar_tune.lit.config import LEARNING_RATES, LitRun, arguments_of
from cifar_tune.train.numerics import epoch_seed, seed_all

DATA_SEED = 0  # of what a data module draws while it is set up: all trials have the same split
PLACES = ("save_dir", "dirpath", "root_dir")  # where callbacks and loggers write, by their names


def build(
    run: LitRun, classes: Mapping[str, type[Any]], token: str
) -> tuple[L.LightningModule, L.LightningDataModule | None]:
    """The user's module and data module.

    Args:
        run: has their names and arguments.
        classes: by section, those that can't be found by their names here.
        token: of this start of a search; empty outside of one.

    Raises:
        PlanError: one can't be found or made.
    """
    made: dict[str, Any] = {}
    for section, seed in (("data", DATA_SEED), ("model", run.seed)):
        name = getattr(run, section).class_path
        if name is not None:
            seed_all(seed)
            kind = classes.get(section) or find_class(section, name)
            made[section] = make(section, kind, run)
            if is_overridden("setup", made[section], parent=KIND[section]):
                _seed_setup(made[section], run.seed)
            if token and is_overridden("prepare_data", made[section], parent=KIND[section]):
                _prepare_once(made[section], f"{token}{getattr(run, section)}")
    use_optimizer(made["model"], run)
    return made["model"], made.get("data")


def trainer_options(run: LitRun, folder: Path) -> dict[str, Any]:
    """What the plan gives the Trainer; what writes files writes them into the trial's folder."""
    options = make_trainer_arguments(_in_folder(trainer_arguments(run), folder))
    # A module may write to its logger; where there is none, that leads nowhere.
    options["logger"] = options.get("logger") or DummyLogger()
    callbacks = options.pop("callbacks", None) or []
    callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
    callbacks = [one for one in callbacks if not isinstance(one, ProgressBar)]  # the search has one
    if any(isinstance(one, Checkpoint) for one in callbacks):
        options["enable_checkpointing"] = True
    # Lightning's own sharing of the batches among workers.
    return {"use_distributed_sampler": True, **options, "callbacks": [Around(run), *callbacks]}


def _in_folder(given: Any, folder: Path) -> Any:
    """The places that callbacks and loggers are given, moved into a folder."""
    if isinstance(given, list):
        return [_in_folder(one, folder) for one in given]
    if not isinstance(given, dict):
        return given
    return {
        name: str(folder / str(value).lstrip("/"))
        if name in PLACES and value
        else _in_folder(value, folder)
        for name, value in given.items()
    }


class Around(Callback):
    """Seeds a training epoch by epoch, keeps its files together, and carries what a resume needs.

    With a loader that draws from torch's, numpy's or Python's global state, as Lightning's users
    have them, a resumed training goes on as an unbroken one would.
    """

    def __init__(self, run: LitRun) -> None:
        self._run = run
        self._before: dict[str, float] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Before the module's own setup, which may make layers."""
        seed_all(self._run.seed)
        folder = Path(trainer.default_root_dir)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is not None:
                inside = Path(callback.dirpath).is_relative_to(folder)
                callback.dirpath = callback.dirpath if inside else str(folder / "checkpoints")

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The random state is a function of the run's seed, the epoch and the worker."""
        epoch, rank = trainer.current_epoch, trainer.global_rank
        seed_all(epoch_seed(self._run.seed, epoch, rank))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """All workers validate what worker 0 saves; DDP leaves BatchNorm's last figures apart."""
        if trainer.world_size > 1:
            for buffer in pl_module.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After optimizers are restored: a population may have changed a learning rate."""
        for name, rate in learning_rates(self._run).items():
            before = self._before.get(name, rate)
            if before not in (0, rate):
                _scale(trainer, rate / before)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Only plain values stay among the hyperparameters: nothing in a checkpoint is ever run."""
        for key in ("hyper_parameters", "datamodule_hyper_parameters"):
            if key in checkpoint:
                checkpoint[key] = {k: v for k, v in checkpoint[key].items() if is_plain(v)}
        checkpoint[STATE_KEY] = {"run": self._run.as_values()}

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._before = learning_rates(LitRun.model_validate(checkpoint[STATE_KEY]["run"]))


def learning_rates(run: LitRun) -> dict[str, float]:
    """The run's learning rates that a population may change, by their fields."""
    values = {f"{name}.{key}": value for name in ("model", "optimizer")
              for key, value in arguments_of(getattr(run, name)).items()}  # fmt: skip
    return {n: float(values[n]) for n in LEARNING_RATES if isinstance(values.get(n), (int, float))}


def _scale(trainer: L.Trainer, factor: float) -> None:
    """Multiply all learning rates, and what schedules begin with."""
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            for name in ("lr", "initial_lr", "max_lr", "min_lr"):
                if name in group:
                    group[name] *= factor
    schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
    while schedules:
        schedule = schedules.pop()
        schedules += getattr(schedule, "_schedulers", ())  # of SequentialLR and ChainedScheduler
        bases = getattr(schedule, "base_lrs", None)
        if bases is not None:
            schedule.base_lrs = [rate * factor for rate in bases]


def is_plain(value: Any) -> bool:
    """Whether a checkpoint that runs no code can hold it."""
    if isinstance(value, Mapping):
        return type(value) is dict and all(is_plain(v) for v in (*value, *value.values()))
    if isinstance(value, (list, tuple)):
        return type(value) in (list, tuple) and all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str) or type(value) is torch.Tensor


def _seed_setup(owner: L.LightningModule | L.LightningDataModule, seed: int) -> None:
    """Let `setup` draw the same at each call, for every stage and in every trial, as a split must.

    What a module makes there is a module's: its layers depend on the seed.
    """
    setup = owner.setup
    of_data = isinstance(owner, L.LightningDataModule)

    def seeded(stage: str) -> None:
        seed_all(DATA_SEED if of_data else seed)
        setup(stage)
        seed_all(seed)

    owner.setup = seeded  # type: ignore[method-assign]


def use_optimizer(module: L.LightningModule, run: LitRun) -> None:
    """Let a module have the optimizer and the schedule of the plan, as LightningCLI would."""
    path = run.optimizer.class_path
    if path is None:
        return

    def configure_optimizers(self: L.LightningModule) -> Any:
        given, schedule = arguments_of(run.optimizer), run.lr_scheduler.class_path
        optimizer = make_by_path("optimizer", given, path, torch.optim.Optimizer, self.parameters())
        if schedule is None:
            return optimizer
        more = arguments_of(run.lr_scheduler)
        scheduler = make_by_path("lr_scheduler", more, schedule, LRSchedulerTypeTuple, optimizer)
        return LightningCLI.configure_optimizers(self, optimizer, scheduler)

    module.configure_optimizers = MethodType(configure_optimizers, module)  # type: ignore[method-assign]


def _prepare_once(owner: L.LightningModule | L.LightningDataModule, of: str) -> None:
    """Let `prepare_data` run once on a node for equal arguments, while the others wait for it.

    Lightning runs it once a process; the trials of a search are many processes.
    """
    prepare, host = owner.prepare_data, gethostname()
    key = hashlib.sha256(f"{host}{of}".encode()).hexdigest()[:16]

    def prepare_data() -> None:
        assert owner.trainer is not None
        folder = Path(owner.trainer.default_root_dir).parent
        folder.mkdir(parents=True, exist_ok=True)
        done, before = folder / f".prepared-{key}", set(vars(owner))
        with (folder / f".prepare-{host}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if done.exists() and not done.read_text():
                return
            prepare()
            # Who keeps something in the object itself has it nowhere else: each prepares it then.
            done.write_text(" ".join(sorted(set(vars(owner)) - before)))

    owner.prepare_data = prepare_data  # type: ignore[method-assign]
