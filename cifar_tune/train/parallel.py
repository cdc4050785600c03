"""One worker among several that train one network together: its group, strategy and BatchNorm."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import lightning.pytorch as L
import torch
import torch.distributed
from lightning.pytorch.plugins import TorchSyncBatchNorm
from lightning.pytorch.plugins.environments import (  # type: ignore[attr-defined]
    LightningEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

# Worker 0 may wait in its report for a driver that is busy, and the others then wait for it.
LONGEST_WAIT = timedelta(minutes=30)


@dataclass(frozen=True, kw_only=True)
class Member:
    """A worker's place among those of a training; all of them run on one node.

    Attributes:
        rank: from 0; worker 0 reports and saves.
        workers: how many there are.
        meeting: a file, at first not there, through which they find each other.
    """

    rank: int
    workers: int
    meeting: str


@contextmanager
def joined(member: Member, *, gpu: bool) -> Iterator[None]:
    """The process group of a training, left without waiting for the others."""
    # They meet in a file and talk over loopback: nothing listens on the network, and it works
    # where the host's name leads nowhere.
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)
    torch.distributed.init_process_group(
        "nccl" if gpu else "gloo",
        store=torch.distributed.FileStore(  # type: ignore[attr-defined]
            member.meeting, member.workers
        ),
        rank=member.rank,
        world_size=member.workers,
        timeout=LONGEST_WAIT,
        # Without it nccl would go by an inherited LOCAL_RANK, equal in all workers.
        device_id=torch.device("cuda", member.rank) if gpu else None,
    )
    try:
        yield
    finally:
        if gpu:  # nccl's orderly end waits for workers that may be gone
            torch.distributed.distributed_c10d._abort_process_group()
        else:
            torch.distributed.destroy_process_group()


def trainer_options(
    member: Member, *, gpu: bool, sync_batchnorm: bool, ddp: Mapping[str, Any]
) -> dict[str, Any]:
    """What makes a Trainer that of one worker, in a group that is joined already."""
    plugins: list[Any] = [_Place(member)]
    if sync_batchnorm:
        plugins.append(TorchSyncBatchNorm() if gpu else SyncBatchNormOnCpu())
    return {
        "devices": member.workers,
        "strategy": _Strategy(**ddp),
        "plugins": plugins,
    }


class _Place(LightningEnvironment):
    """Tells Lightning which worker this process is, whatever the environment says of others."""

    creates_processes_externally = True  # by us

    def __init__(self, member: Member) -> None:
        super().__init__()
        self._member = member

    def local_rank(self) -> int:
        return self._member.rank

    def node_rank(self) -> int:
        return 0


class _Strategy(DDPStrategy):
    """DDP in which worker 0 alone saves and reports, whenever it wants to."""

    def barrier(self, *_: Any, **__: Any) -> None:
        """Waits for nobody: `save_checkpoint` has one, and only worker 0 comes there."""

    def _setup_model(self, model: nn.Module) -> DistributedDataParallel:
        # Lightning's builds it in a stream of its own, and each step then waits for that (#21567).
        return DistributedDataParallel(
            module=model, device_ids=self.determine_ddp_device_ids(), **self._ddp_kwargs
        )


class WeighShares(L.Callback):
    """Makes DDP's average over the workers the gradient of the whole batch's mean loss.

    A batch that the workers can't share evenly gives some an example more than others; a loader
    whose batches may be such ones has `examples_in(batch_idx)`, their size over all workers.
    """

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        count = getattr(trainer.train_dataloader, "examples_in", None)
        if count is not None:
            pl_module.loss_weight = trainer.world_size * len(batch[1]) / count(batch_idx)


def add_up(*sums: Tensor) -> list[Tensor]:
    """Each scalar summed over the workers, as float64 on the device of the first."""
    total = torch.stack([one.to(sums[0].device, torch.float64) for one in sums])
    torch.distributed.all_reduce(total)
    return list(total)


def average_buffers(module: nn.Module) -> None:
    """Bring all workers to the mean of their BatchNorms' running figures."""
    floats = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
    if not floats:
        return
    mean = torch.cat([buffer.flatten() for buffer in floats])
    torch.distributed.all_reduce(mean)
    mean /= torch.distributed.get_world_size()
    parts = torch.split(mean, [buffer.numel() for buffer in floats])
    for buffer, part in zip(floats, parts, strict=True):
        buffer.copy_(part.view_as(buffer))


class SyncBatchNormOnCpu(TorchSyncBatchNorm):
    """torch's SyncBatchNorm refuses CPUs; this does the same there, and is undone afterwards."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Swap the forward pass of every BatchNorm; parameters, buffers and names stay."""
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                synced = partial(_synced_forward, module, module.forward)
                module.__dict__["forward"] = synced  # before the class's own
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Give every BatchNorm its own forward pass back."""
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.__dict__.pop("forward", None)
        return model


def _synced_forward(
    norm: nn.modules.batchnorm._BatchNorm, alone: Callable[[Tensor], Tensor], values: Tensor
) -> Tensor:
    """A BatchNorm's pass over the batch of all workers.

    Args:
        norm: whose parameters and running figures are used.
        alone: its own forward pass, for evaluation.
        values: [batch, channels, ...].
    """
    if not norm.training:
        return alone(values)
    x = values.to(torch.promote_types(values.dtype, torch.float32))
    axes = [0, *range(2, x.dim())]
    mean, variance, count = _statistics(x, axes)
    if norm.running_mean is not None and norm.running_var is not None:
        assert norm.num_batches_tracked is not None
        with torch.no_grad():
            norm.num_batches_tracked += 1
            seen = int(norm.num_batches_tracked)
            part = 1 / seen if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean, part)
            norm.running_var.lerp_(variance * count / (count - 1), part)
    shape = [1, -1, *[1] * (x.dim() - 2)]
    scale = torch.rsqrt(variance + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    shifted = (x - mean.view(shape)) * scale.view(shape)
    shifted = shifted if norm.bias is None else shifted + norm.bias.view(shape)
    return shifted.to(values.dtype)


def _statistics(x: Tensor, axes: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and (biased) variance of each channel, and the values in one, over all workers.

    Each worker's own mean and variance are combined (Chan et al. 1979), because a mean of squares
    less a squared mean would cancel in float32.
    """
    workers, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    variance, mean = torch.var_mean(x, axes, correction=0)
    own = torch.stack([mean, variance, torch.full_like(mean, x.numel() / x.shape[1])])
    # A sum of rows that are zero but for a worker's own is a gather with a simple gradient.
    rows = [own if other == rank else torch.zeros_like(own) for other in range(workers)]
    gathered: Tensor = _Sum.apply(torch.stack(rows))
    means, variances, counts = gathered.unbind(1)
    count = counts.sum(0)
    mean = (counts * means).sum(0) / count
    variance = (counts * (variances + (means - mean) ** 2)).sum(0) / count
    return mean, variance, count


class _Sum(torch.autograd.Function):
    """The sum over the workers; its gradient is the sum of theirs."""

    @staticmethod
    def forward(_: Any, own: Tensor) -> Tensor:
        total = own.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Any:
        return _Sum.apply(*gradients)
