"""Serves a search's data to Lightning as ready batches, made on the trainer's own device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Literal

import lightning.pytorch as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar_tune.errors import DataError
from cifar_tune.vision.config import DataConfig
from cifar_tune.vision.data.augmentation import BatchMaker, plan_epoch
from cifar_tune.vision.data.dataset import SearchData

EVAL_ON_CPU = 250  # images, which fit a core's cache
EVAL_PIXELS_ON_GPU = 5000 * 32 * 32  # fewer, and the GPU waits for its next kernel

Batch = tuple[Tensor, Tensor]  # images [batch, 3, 32, 32], labels [batch] int64


class CifarDataModule(L.LightningDataModule):
    """Training and validation batches of one trial.

    The arrays go to the trainer's device once, in `setup`: to a GPU as uint8, on a CPU without a
    copy, so that trials share the one in Ray's object store. There are no loader workers to wait
    for: a batch is made in a few microseconds an image (augmentation.py).

    With several processes (data parallelism) each gets its share of every training batch, so that
    `batch_size` stays the number of images in a step, and its share of the validation images; the
    figures are to be summed over the processes.
    """

    on_device = True  # its batches are where the training is: nothing is left to move

    def __init__(
        self, data: SearchData, config: DataConfig, seed: int, channels_last: bool = True
    ) -> None:
        super().__init__()
        self._data, self._config, self._seed = data, config, seed
        self._channels_last = channels_last
        self._train: TrainLoader | None = None
        self._val: EvalLoader | None = None

    def setup(self, stage: str) -> None:
        """Brings the arrays to the device of the trainer that this module is attached to."""
        trainer = self.trainer
        assert trainer is not None, "Lightning attaches it before"
        data, config, device = self._data, self._config, trainer.strategy.root_device
        rank, workers = trainer.global_rank, trainer.world_size
        if len(data.val_labels) < workers:
            raise DataError(
                f"{len(data.val_labels)} validation images are shared by {workers} processes; it"
                " must be at least one each. Raise data.val_size."
            )

        def placed(array: NDArray[Any]) -> Tensor:
            return as_tensor(array).to(device)

        maker = BatchMaker(config, data.mean, data.std, device, self._channels_last)
        images, labels = placed(data.train_images), placed(data.train_labels)
        self._train = TrainLoader(
            images, labels, maker, config, self._seed, lambda: trainer.current_epoch, rank, workers
        )
        images, labels = (
            placed(data.val_images[rank::workers]),
            placed(data.val_labels[rank::workers]),
        )
        self._val = EvalLoader(images, labels, maker, config.eval_batch_size)

    def train_dataloader(self) -> TrainLoader:
        """Returns the training batches, in another order and augmentation each epoch."""
        assert self._train is not None, "Lightning has called setup before"
        return self._train

    def val_dataloader(self) -> EvalLoader:
        """Returns the validation batches, the same each time."""
        assert self._val is not None, "Lightning has called setup before"
        return self._val

    def teardown(self, stage: str) -> None:
        """Lets go of the device's memory: a trial's process is used again for the next trial."""
        self._train = self._val = None


class TrainLoader:
    """Augmented training batches; iterating it goes through the epoch that `epoch()` names."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        maker: BatchMaker,
        config: DataConfig,
        seed: int,
        epoch: Callable[[], int],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._images, self._labels, self._maker = images, labels, maker
        self._config, self._seed, self._epoch = config, seed, epoch
        self._rank, self._world_size = rank, world_size
        size = min(config.batch_size, len(labels))
        if size < world_size:
            raise DataError(
                f"a batch has {size} images (data.batch_size is {config.batch_size}), shared by "
                f"{world_size} processes; it must be at least one image each. Use larger batches "
                "or fewer workers a trial."
            )

    def __len__(self) -> int:
        """Number of batches, equal in all processes and at least 1."""
        full, rest = divmod(len(self._labels), self._config.batch_size)
        # A last batch that can't give every process an image would leave some waiting for ever.
        return full + (rest >= self._world_size and (not self._config.drop_last or not full))

    def examples_in(self, batch: int) -> int:
        """Images in a batch (from 0), those of all processes together."""
        size = self._config.batch_size
        return min(size, len(self._labels) - batch * size)

    def __iter__(self) -> Iterator[Batch]:
        # As a generator this runs at the first `next`: Lightning makes the iterator before the
        # epoch's number is counted up, or restored from a checkpoint.
        images, size = len(self._labels), self._config.batch_size
        plan = plan_epoch(images, self._config, self._seed, self._epoch())
        device = self._images.device
        order, choices = plan.order.to(device), plan.choices.to(device)
        for batch in range(len(self)):
            start, stop = batch * size + self._rank, min((batch + 1) * size, images)
            index = order[start : stop : self._world_size]
            part = choices.part(start, stop, self._world_size)
            yield self._maker.augmented(self._images, index, part), self._labels[index]


class EvalLoader:
    """Normalised batches in a fixed order, nothing left out."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        maker: BatchMaker,
        batch_size: int | Literal["auto"],
    ) -> None:
        """`images` is uint8 [n, height, width, channels], on the device that computes."""
        self._images, self._labels, self._maker = images, labels, maker
        pixels = images.shape[1] * images.shape[2]
        on_cpu = images.device.type == "cpu"
        filling = EVAL_ON_CPU if on_cpu else max(1, EVAL_PIXELS_ON_GPU // pixels)
        self._batch_size = filling if batch_size == "auto" else batch_size

    def __len__(self) -> int:
        return -(-len(self._labels) // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self._labels), self._batch_size):
            part = slice(start, start + self._batch_size)
            yield self._maker.plain(self._images[part]), self._labels[part]


def as_tensor(array: NDArray[Any]) -> Tensor:
    """Shares an array's memory with a tensor, also that of a read-only array, and never warns.

    torch can't mark a tensor as read-only and warns about such arrays, which is how they come out
    of Ray's object store. Nothing in this room writes to them.
    """
    contiguous = np.ascontiguousarray(array)
    interface = dict(contiguous.__array_interface__)
    interface["data"] = (interface["data"][0], False)  # without the mark
    # What numpy keeps alive as long as the tensor lives must keep the memory.
    unlocked = SimpleNamespace(__array_interface__=interface, memory=contiguous)
    return torch.from_numpy(np.asarray(unlocked))
