"""Trains one configuration: the only place where a Trainer is made."""

from __future__ import annotations

import logging
import random
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cifar_tune.errors import PlanError
from cifar_tune.plan.config import DataConfig, RunConfig
from cifar_tune.plan.machine import check_compiler, read_machine, settle

if TYPE_CHECKING:  # torch and Lightning cost seconds, which --help must not
    from lightning.pytorch import Callback, Trainer
    from torch import nn

    from cifar_tune.train.parallel import Member
    from cifar_tune.vision.data import SearchData
    from cifar_tune.vision.module import Classifier

PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
}
INIT_IMAGES = 2000  # at most, that a network may start from
MOST_VARIANTS = 256  # of a compiled network, in one process


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What a training came to.

    Attributes:
        metrics: the figures of the last epoch (`Classifier.epoch_metrics`).
        best_epoch: the epoch (from 1) of `metrics["best_val_accuracy"]`.
        diverged: whether it ended because a loss or a weight was not finite.
        module: the network as it was after the last epoch, on the CPU.
        run: the config that ran, with every `auto` settled.
    """

    metrics: dict[str, float]
    best_epoch: int
    diverged: bool
    module: Classifier
    run: RunConfig


def fit(
    run: RunConfig,
    data: SearchData,
    *,
    callbacks: Sequence[Callback] = (),
    resume_from: Path | None = None,
    fast_dev_run: bool = False,
    member: Member | None = None,
) -> FitResult:
    """Train one configuration on one device, validating after every epoch.

    The same config and seed give the same weights, bit for bit on one kind of CPU, also when a
    training is stopped and resumed. The caller's random state, threads and cuDNN flags are as
    before afterwards.

    Args:
        run: what to train; `auto` in `run.train` is settled for this machine.
        data: training and validation images.
        callbacks: Lightning's; those that save use `trainer.save_checkpoint` in
            `on_validation_end`, where `module.epoch_metrics` is ready. They may end the training
            by raising SystemExit.
        resume_from: a checkpoint that was saved at a validation's end.
        fast_dev_run: one training and one validation step.
        member: which of several workers this process is (`workers.fit_with_workers` starts
            them); none: it trains alone.

    Raises:
        PlanError: the model can't be built, the precision is not for this machine, or the
            checkpoint is not a local file.
        DataError: an epoch would have no step.
    """
    import torch

    gpu = torch.cuda.is_available()
    machine = read_machine()
    run = run.model_copy(update={"train": settle(run.train, machine, cpus=machine.cpus, gpu=gpu)})
    _check(run, resume_from, gpu)
    with _quiet_lightning(), _numerics(run, gpu):
        if member is None:
            return _fit(run, data, callbacks, resume_from, fast_dev_run, gpu)
        from cifar_tune.train.parallel import WeighShares, joined, trainer_options

        sync = run.train.sync_batchnorm
        more = trainer_options(member, gpu=gpu, sync_batchnorm=sync)
        with joined(member, gpu=gpu):
            callbacks = [WeighShares(), *callbacks]
            return _fit(run, data, callbacks, resume_from, fast_dev_run, gpu, more)


def _fit(
    run: RunConfig,
    data: SearchData,
    callbacks: Sequence[Callback],
    resume_from: Path | None,
    fast_dev_run: bool,
    gpu: bool,
    options: Mapping[str, Any] | None = None,
) -> FitResult:
    from cifar_tune.vision.data.datamodule import CifarDataModule
    from cifar_tune.vision.module import Classifier, run_values

    channels_last = run.train.channels_last is True
    datamodule = CifarDataModule(data, run.data, run.seed, channels_last=channels_last)
    module = Classifier(
        run=run_values(run),
        classes=[str(name) for name in data.classes],
        mean=[float(x) for x in data.mean],
        std=[float(x) for x in data.std],
    )
    if resume_from is None:
        init_from_images(module.model, data)
    trainer = _trainer(run, callbacks, fast_dev_run, gpu, options or {})
    with _keyboard_interrupts(), compiled(module.model) if run.train.compile else nullcontext():
        trainer.fit(
            module,
            datamodule=datamodule,
            ckpt_path=resume_from,
            weights_only=True,  # nothing in a checkpoint is ever run
        )
    return FitResult(
        metrics=dict(module.epoch_metrics),
        best_epoch=module.best_epoch,
        diverged=module.diverged,
        module=module.cpu(),
        run=run,
    )


def init_from_images(network: nn.Module, data: SearchData) -> None:
    """Let a network that starts from data, such as a whitening layer, see training images.

    Such a network has a method `init_from_images(images)`, which gets normalised images, float
    [n, 3, 32, 32], on the CPU, the same ones in every worker and whatever the seed. A resumed
    training has its outcome in the checkpoint.
    """
    from cifar_tune.vision.data.augmentation import BatchMaker
    from cifar_tune.vision.data.datamodule import as_tensor

    init = getattr(network, "init_from_images", None)
    if init is None:
        return
    # Spread over all of them: an image folder's come class by class.
    step = -(-len(data.train_images) // INIT_IMAGES)
    images = as_tensor(data.train_images[::step])
    maker = BatchMaker(DataConfig(), data.mean, data.std, images.device, channels_last=False)
    init(maker.plain(images))


@contextmanager
def compiled(network: nn.Module) -> Iterator[None]:
    """The network's forward pass compiled; its names and its state are as ever, and so is it after.

    torch keeps compiled code with the class's own `forward` and looks it up by shapes and types,
    so that the next network of this architecture in this process takes it over.
    """
    import torch

    # Beyond its limit of 8 variants of a function (a batch size, a width, training or not: one
    # each), torch would go on without compiling.
    with torch._dynamo.config.patch(recompile_limit=MOST_VARIANTS):
        network.forward = torch.compile(network.forward)
        try:
            yield
        finally:
            del network.forward


def _trainer(
    run: RunConfig,
    callbacks: Sequence[Callback],
    fast_dev_run: bool,
    gpu: bool,
    options: Mapping[str, Any],
) -> Trainer:
    """A Trainer that does nothing by itself but train: no logs, files, bars or summaries."""
    import lightning.pytorch as L
    from lightning.pytorch.plugins.environments import (  # type: ignore[attr-defined]
        LightningEnvironment,
    )
    from lightning.pytorch.profilers import PassThroughProfiler

    profiler = PassThroughProfiler()
    nothing = nullcontext()  # Lightning makes 26 contexts a step to time nothing: 40 µs
    profiler.profile = lambda _: nothing  # type: ignore[assignment, method-assign, return-value]
    alone = {"devices": 1, "plugins": [LightningEnvironment()]}  # or it takes over under SLURM
    trainer = L.Trainer(
        accelerator="gpu" if gpu else "cpu",
        precision=PRECISIONS[run.train.precision],
        max_epochs=run.train.max_epochs,
        gradient_clip_val=run.optim.gradient_clip or None,
        callbacks=list(callbacks),
        profiler=profiler,
        fast_dev_run=fast_dev_run,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **(options or alone),
    )
    # Our data module makes batches on the device; Lightning would look for what to move each step.
    trainer.strategy.batch_to_device = lambda batch, **_: batch  # type: ignore[method-assign]
    return trainer


def _check(run: RunConfig, resume_from: Path | None, gpu: bool) -> None:
    if run.train.compile:
        check_compiler(gpu=gpu)
    if run.train.precision == "16" and not gpu:
        raise PlanError("train.precision is 16, which needs a GPU; on a CPU give bf16 or 32")
    if resume_from is not None and not Path(resume_from).is_file():
        # Lightning would download a URL.
        raise PlanError(f"the checkpoint {resume_from} is not a local file; give a file's path")


@contextmanager
def _numerics(run: RunConfig, gpu: bool) -> Iterator[None]:
    """Random state, threads and cuDNN as the run says, and afterwards as they were."""
    import numpy as np
    import torch

    python_state, numpy_state = random.getstate(), np.random.get_state()
    threads = torch.get_num_threads()
    devices = [torch.cuda.current_device()] if gpu else []
    cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    try:
        with torch.random.fork_rng(devices), cudnn:
            torch.set_num_threads(int(run.train.threads))
            random.seed(run.seed)
            np.random.seed(run.seed % 2**32)
            torch.manual_seed(run.seed)
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Hide Lightning's notes ("GPU available: ..."), not its warnings but for one."""
    import lightning.pytorch  # noqa: F401 (which sets its logger's level when it is imported)

    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        with warnings.catch_warnings():
            # Lightning 2.6.6 asks torch >= 2.14 in a way that will change; nobody here can mend it.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            # Our figures are summed over the workers before they are logged.
            warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
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
