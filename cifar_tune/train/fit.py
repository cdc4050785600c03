"""Trains one configuration: the only place where a Trainer is made."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from cifar_tune.errors import PlanError
from cifar_tune.plan.compiler import check_compiler
from cifar_tune.plan.machine import read_machine, settle
from cifar_tune.plan.task import task_of
from cifar_tune.train.figures import figures_of, is_diverged
from cifar_tune.train.numerics import numerics

if TYPE_CHECKING:  # torch and Lightning cost seconds, which --help must not
    from lightning.pytorch import Callback, LightningModule, Trainer

    from cifar_tune.train.parallel import Member

PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
}
HERE = Path()
MOST_VARIANTS = 256  # of a compiled network, in one process


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What a training came to.

    Attributes:
        metrics: the figures of the last epoch (`figures_of`).
        diverged: whether it ended because a loss or a weight was not finite.
        module: the network as it was after the last epoch, on the CPU.
        run: the config that ran, with every `auto` settled.
    """

    metrics: dict[str, float]
    diverged: bool
    module: LightningModule
    run: Any


def fit(
    run: Any,
    part: Any,
    *,
    callbacks: Sequence[Callback] = (),
    resume_from: Path | None = None,
    fast_dev_run: bool = False,
    overrides: Mapping[str, Any] = MappingProxyType({}),
    folder: Path = HERE,
    member: Member | None = None,
) -> FitResult:
    """Train one configuration on one device, validating after every epoch.

    The same config and seed give the same weights, bit for bit on one kind of CPU, also when a
    training is stopped and resumed. The caller's random state, threads and cuDNN flags are as
    before afterwards.

    Args:
        run: what to train, of a task's `Config`; `auto` in `run.train` is settled for this
            machine.
        part: the data, as the task's `Data.part` gave it.
        callbacks: Lightning's; those that save use `trainer.save_checkpoint` in
            `on_validation_end`, where `figures_of` gives the epoch's figures. They may end the
            training by raising SystemExit.
        resume_from: a checkpoint that was saved at a validation's end.
        fast_dev_run: one training and one validation step.
        overrides: arguments of the Trainer that win over the task's.
        folder: where the task's own loggers and callbacks may write.
        member: which of several workers this process is (`workers.fit_with_workers` starts
            them); none: it trains alone.

    Raises:
        PlanError: the model can't be built, the precision is not for this machine, or the
            checkpoint is not a local file.
        DataError: an epoch would have no step.
    """
    run, gpu = on_this_machine(run)
    _check(run, resume_from, gpu)
    given = {
        "accelerator": "gpu" if gpu else "cpu",
        "fast_dev_run": fast_dev_run,
        "default_root_dir": folder,
        **overrides,
    }
    if gpu and member is not None:  # or all workers would have a context on the first GPU
        import torch

        torch.cuda.set_device(member.rank)
    with quiet_lightning(), numerics(run, gpu):
        if member is None:
            return _fit(run, part, resume_from, alone(), callbacks=[*callbacks], **given)
        from cifar_tune.train.parallel import WeighShares, joined, trainer_options

        place = trainer_options(
            member, gpu=gpu, sync_batchnorm=run.train.sync_batchnorm, ddp=task_of(run).ddp
        )
        with joined(member, gpu=gpu):
            shared = [WeighShares(), *callbacks]
            return _fit(run, part, resume_from, place, callbacks=shared, **given)


def _fit(
    run: Any,
    part: Any,
    resume_from: Path | None,
    place: Mapping[str, Any],
    *,
    callbacks: Sequence[Callback],
    **given: Any,
) -> FitResult:
    """Train; `place` are Trainer's arguments that win over the task's, `given` those beside it."""
    task = task_of(run)
    module, datamodule = task.build(run, part, fresh=resume_from is None)
    options = placed(task.trainer_options(run, given["default_root_dir"]), place)
    both = [*options.pop("callbacks", ()), *callbacks]
    trainer = make_trainer(run, **{**options, **given}, callbacks=both)
    if getattr(datamodule, "on_device", False):
        # Its batches are there already; Lightning would look for what to move each step.
        vars(trainer.strategy)["batch_to_device"] = lambda batch, **_: batch
    with _keyboard_interrupts(), compiled(module) if run.train.compile else nullcontext():
        trainer.fit(
            module,
            datamodule=datamodule,
            ckpt_path=resume_from,
            weights_only=True,  # nothing in a checkpoint is ever run
        )
    metrics = figures_of(trainer, module)
    return FitResult(
        metrics=metrics, diverged=is_diverged(module, metrics), module=module.cpu(), run=run
    )


@contextmanager
def compiled(module: LightningModule) -> Iterator[None]:
    """The network's forward pass compiled; its names and its state are as ever, and so is it after.

    The network is the module's `model`, if it has one.

    torch keeps compiled code with the class's own `forward` and looks it up by shapes and types,
    so that the next network of this architecture in this process takes it over.
    """
    import torch

    network = getattr(module, "model", module)
    # Beyond its limit of 8 variants of a function (a batch size, a width, training or not: one
    # each), torch would go on without compiling.
    with torch._dynamo.config.patch(recompile_limit=MOST_VARIANTS):
        network.forward = torch.compile(network.forward)  # type: ignore[method-assign]
        try:
            yield
        finally:
            del network.forward


def make_trainer(run: Any, **options: Any) -> Trainer:
    """A Trainer that does nothing by itself but train: no logs, files, bars or summaries.

    `options` win.
    """
    import lightning.pytorch as L
    from lightning.pytorch.profilers import PassThroughProfiler

    profiler = PassThroughProfiler()
    nothing = nullcontext()  # Lightning makes 26 contexts a step to time nothing: 40 µs
    profiler.profile = lambda _: nothing  # type: ignore[assignment, method-assign, return-value]
    ours: dict[str, Any] = {
        "precision": PRECISIONS[run.train.precision],
        "max_epochs": run.train.max_epochs,
        "profiler": profiler,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(**{**ours, **options})


def on_this_machine(run: Any) -> tuple[Any, bool]:
    """The run with every `auto` settled, and whether it trains on a GPU."""
    import torch

    gpu, machine = torch.cuda.is_available(), read_machine(trains=True)
    train = settle(run.train, machine, cpus=machine.cpus, gpu=gpu)
    return run.model_copy(update={"train": train}), gpu


def placed(options: Mapping[str, Any], place: Mapping[str, Any]) -> dict[str, Any]:
    """A task's arguments of the Trainer with those of a place, which win; plugins are both's."""
    plugins = [*options.get("plugins", ()), *place["plugins"]]
    return {**options, **place, "plugins": plugins}


def alone() -> dict[str, Any]:
    """One worker; of Lightning's own environment, or it takes over under SLURM."""
    from lightning.pytorch.plugins.environments import (  # type: ignore[attr-defined]
        LightningEnvironment,
    )

    return {"devices": 1, "plugins": [LightningEnvironment()]}


def _check(run: Any, resume_from: Path | None, gpu: bool) -> None:
    if run.train.compile:
        check_compiler(gpu=gpu)
    if run.train.precision == "16" and not gpu:
        raise PlanError("train.precision is 16, which needs a GPU; on a CPU give bf16 or 32")
    if resume_from is not None and not Path(resume_from).is_file():
        # Lightning would download a URL.
        raise PlanError(f"the checkpoint {resume_from} is not a local file; give a file's path")


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hide Lightning's notes ("GPU available: ..."), not its warnings but for one."""
    import lightning.pytorch  # noqa: F401 (which sets its logger's level when it is imported)

    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        with warnings.catch_warnings():
            # Lightning 2.6.6 asks torch >= 2.14 in a way that will change; nobody here can mend it.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            # Where nobody asked for a logger, ours leads nowhere.
            warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
            # torch 2.15's new name for it is not there in 2.10, our lower bound.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers. is deprecated.*")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _keyboard_interrupts() -> Iterator[None]:
    """Pass Ctrl-C on: Lightning turns it into exit code 1 and leaves SIGINT ignored."""
    main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise stop.__context__ from None
        raise
    finally:
        if main_thread:
            signal.signal(signal.SIGINT, handler)
