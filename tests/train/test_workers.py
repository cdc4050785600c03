"""Several workers train as one does: the same curve, also resumed; their ends and their errors."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch import nn
from toy_images import toy_data, toy_run

from cifar_tune.errors import DataError
from cifar_tune.train.fit import FitResult
from cifar_tune.train.parallel import Member, joined, trainer_options
from cifar_tune.train.workers import WorkerError, fit_with_workers
from cifar_tune.vision.config import ModelConfig, VisionRun

DATA = toy_data(100, 33)
# The last batch has 7 images and the validation 33: no two workers can share these evenly.
UNEVEN = {"data__batch_size": 31, "data__drop_last": False, "optim__lr": 0.01}


def figures(
    run: VisionRun, workers: int, folder: Path, resume_from: Path | None = None
) -> tuple[FitResult, list[dict[str, float]]]:
    """What a training came to, and each epoch's figures; it leaves `<epoch>.ckpt` in `folder`."""
    epochs: list[dict[str, float]] = []

    def note(trainer: Any, module: Any) -> None:
        epochs.append(dict(module.epoch_metrics))
        trainer.save_checkpoint(folder / f"{len(epochs)}.ckpt")

    folder.mkdir(exist_ok=True)
    result = fit_with_workers(
        run, DATA, workers=workers, resume_from=resume_from,
        callbacks=[LambdaCallback(on_validation_end=note)],
    )  # fmt: skip
    assert not multiprocessing.active_children()
    assert not torch.distributed.is_initialized()
    return result, epochs


@pytest.mark.parametrize(
    ("values", "workers"),
    [
        ({"model__name": "net", "optim__gradient_clip": 0.5, "data__cutout": 8}, 2),
        ({"model__name": "resnet9", "train__sync_batchnorm": True}, 2),
        ({"model__name": "net"}, 3),
    ],
    ids=["net", "resnet9 with synced BatchNorm", "three workers"],
)
def test_the_curve_is_that_of_one_worker_with_the_same_batches(
    values: dict[str, Any], workers: int, tmp_path: Path
) -> None:
    run = toy_run(2, **UNEVEN, **values)
    alone, expected = figures(run, 1, tmp_path / "alone")
    shared, epochs = figures(run, workers, tmp_path / "shared")
    assert len(epochs) == len(expected) == 2
    for name in ("train_loss", "val_loss"):
        assert epochs[0][name] == pytest.approx(expected[0][name], abs=1e-3)
    assert epochs[0]["val_accuracy"] == pytest.approx(expected[0]["val_accuracy"], abs=1 / 33)
    assert [epoch["lr"] for epoch in epochs] == [epoch["lr"] for epoch in expected]
    types = [type(module) for module in alone.module.modules()]
    assert [type(module) for module in shared.module.modules()] == types
    saved = torch.load(tmp_path / "shared" / "2.ckpt", weights_only=True)["state_dict"]
    assert list(saved) == list(alone.module.state_dict())


@pytest.mark.faults
def test_a_training_resumes_as_one_that_was_never_broken(tmp_path: Path) -> None:
    run = toy_run(3, **UNEVEN)
    _, unbroken = figures(run, 2, tmp_path / "unbroken")
    checkpoint = tmp_path / "unbroken" / "1.ckpt"
    _, resumed = figures(run, 2, tmp_path / "resumed", checkpoint)
    for again, epoch in zip(resumed, unbroken[1:], strict=True):
        for name in ("epoch", "train_loss", "val_loss", "lr"):
            assert again[name] == epoch[name]


@pytest.mark.faults
def test_a_training_that_ends_in_its_report_takes_its_workers_along() -> None:
    workers: list[Any] = []

    def leave(trainer: Any, module: Any) -> None:
        workers.extend(multiprocessing.active_children())
        raise SystemExit(0)

    callbacks = [LambdaCallback(on_validation_end=leave)]
    with pytest.raises(SystemExit, match="0"):
        fit_with_workers(toy_run(9), DATA, workers=2, callbacks=callbacks)
    assert len(workers) == 1
    assert not workers[0].is_alive()


def broken_in_a_worker(config: ModelConfig, num_classes: int) -> nn.Module:
    """A user's own net that can be built by worker 0 alone."""
    if torch.distributed.get_rank() > 0:
        raise MemoryError("no room for another")
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, num_classes))


@pytest.mark.faults
def test_the_error_of_another_worker_is_told() -> None:
    run = toy_run(2, model__name=f"{__name__}:broken_in_a_worker")
    with pytest.raises(WorkerError, match=r"(?s)^worker 1 failed.*MemoryError: no room") as told:
        fit_with_workers(run, DATA, workers=2)
    assert isinstance(told.value.__cause__, Exception)


@pytest.mark.faults
def test_the_error_of_worker_0_is_told_and_not_what_it_costs_the_others() -> None:
    def no_room(trainer: Any, module: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    callbacks = [LambdaCallback(on_validation_end=no_room)]
    with pytest.raises(OSError, match="No space left on device"):
        fit_with_workers(toy_run(9), DATA, workers=2, callbacks=callbacks)


@pytest.mark.faults
def test_the_death_of_another_worker_is_told() -> None:
    def kill(trainer: Any, module: Any) -> None:
        multiprocessing.active_children()[0].kill()

    callbacks = [LambdaCallback(on_validation_end=kill)]
    with pytest.raises(WorkerError, match="worker 1 died with exit code -9"):
        fit_with_workers(toy_run(99), DATA, workers=2, callbacks=callbacks)


BLOCKED = """
import os, sys, time
import torch
from cifar_tune.record.trials import kind_of
from cifar_tune.train import workers
from toy_images import toy_data, toy_run

workers.NOTICED_SECONDS = 1.0
try:
    workers.fit_with_workers(toy_run(2, model__name=f"train.test_workers:{sys.argv[1]}"), toy_data(32, 16), workers=2)
except workers.WorkerError as error:
    print(kind_of(f"WorkerError: {error}"), "|", error)
"""


class Ends(nn.Linear):
    """Ends worker 1 in its first step; a child of it keeps its sockets open, as nccl's stay."""

    def __init__(self, num_classes: int, ending: Callable[[], None]) -> None:
        super().__init__(3072, num_classes)
        self._ending = ending

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training and torch.distributed.get_rank() == 1:
            if os.fork() == 0:
                time.sleep(8)
                os._exit(0)
            self._ending()
        return super().forward(images.flatten(1))


def _out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


def _error() -> None:
    raise RuntimeError("the third bolt is loose")


def _killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def out_of_memory(config: ModelConfig, num_classes: int) -> nn.Module:
    return Ends(num_classes, _out_of_memory)


def error(config: ModelConfig, num_classes: int) -> nn.Module:
    return Ends(num_classes, _error)


def killed(config: ModelConfig, num_classes: int) -> nn.Module:
    return Ends(num_classes, _killed)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ("out_of_memory", "out of memory | worker 1 failed"),
        ("error", "code | worker 1 failed"),
        ("killed", "lost process | worker 1 died with exit code -9"),
    ],
)
def test_a_workers_end_is_told_also_where_worker_0_would_wait_for_it_for_ever(
    ending: str, told: str
) -> None:
    here = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, ending], check=False, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(here)}, timeout=300,
    )  # fmt: skip
    assert done.stdout.startswith(told), done.stdout + done.stderr


def test_each_worker_has_its_own_gpu_whatever_rank_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda *_, **given: asked.update(given)
    )
    monkeypatch.setattr(torch.distributed.distributed_c10d, "_abort_process_group", lambda: None)
    member = Member(rank=1, workers=2, meeting=str(tmp_path / "meeting"))
    with joined(member, gpu=True):
        assert asked["device_id"] == torch.device("cuda", 1)
    (place,) = trainer_options(member, gpu=True, sync_batchnorm=False, ddp={})["plugins"]
    assert place.local_rank() == 1


def test_what_workers_can_not_share_is_refused() -> None:
    few = toy_data(100, 1)
    with pytest.raises(DataError, match=r"1 validation images are shared by 2 processes"):
        fit_with_workers(toy_run(2), few, workers=2)
    with pytest.raises(DataError, match=r"data\.batch_size is 1\), shared by 2 processes"):
        fit_with_workers(toy_run(2, data__batch_size=1), DATA, workers=2)
