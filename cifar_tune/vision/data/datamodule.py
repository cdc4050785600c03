"""Serves a search's data to Lightning as ready batches, made on the trainer's own device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal

import lightning.pytorch as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar_tune.errors import DataError
from cifar_tune.vision.data.augmentation import BatchMaker, Choices, plan_epoch
from cifar_tune.vision.data.dataset import MappedImages, Pixels, SearchData, Uint8Array
from cifar_tune.vision.data.photographs import Photographs, photographs_of
from cifar_tune.vision.data_config import DataConfig

EVAL_ON_CPU = 250  # images, which fit a core's cache
EVAL_PIXELS_ON_GPU = 5000 * 32 * 32  # fewer, and the GPU waits for its next kernel

# Images [batch, 3, side, side], labels [batch] int64, or shares of classes [batch, classes] float.
Batch = tuple[Tensor, Tensor]


class CifarDataModule(L.LightningDataModule):
    """Training and validation batches of one trial.

    The arrays go to the trainer's device in `setup`: to a GPU as uint8, where they stay for this
    process's next trial, on a CPU without a copy, so that trials share the one in Ray's object
    store, or in the mapped file. There are no loader workers to wait for: a batch is made in a few
    microseconds an image (augmentation.py).

    With several processes (data parallelism) each gets its share of every training batch, so that
    `batch_size` stays the number of images in a step, and its share of the validation images; the
    figures are to be summed over the processes.
    """

    on_device = True  # its batches are where the training is: nothing is left to move

    def __init__(
        self, data: SearchData, config: DataConfig, seed: int, channels_last: bool = True
    ) -> None:
        super().__init__()
        self._data, self._seed = data, seed
        self._config = config.model_copy(update={"image_size": data.side})
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

        maker = BatchMaker(config, data.mean, data.std, device, self._channels_last)
        images, rows = _placed("train", data.train_images, device)
        self._train = TrainLoader(
            images,
            as_tensor(data.train_labels).to(device),
            maker,
            config,
            self._seed,
            lambda: trainer.current_epoch,
            rank,
            workers,
            rows,
            photographs_of(config, data.side, len(data.classes), self._seed),
        )
        images, rows = _placed("val", data.val_images[rank::workers], device)
        labels = as_tensor(data.val_labels[rank::workers]).to(device)
        self._val = EvalLoader(images, labels, maker, config.eval_batch_size, rows)

    def train_dataloader(self) -> TrainLoader:
        """Returns the training batches, in another order and augmentation each epoch."""
        assert self._train is not None, "Lightning has called setup before"
        return self._train

    def val_dataloader(self) -> EvalLoader:
        """Returns the validation batches, the same each time."""
        assert self._val is not None, "Lightning has called setup before"
        return self._val

    def teardown(self, stage: str) -> None:
        """Lets go of what this trial alone has: its process is used again for the next one."""
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
        rows: Tensor | None = None,
        photographs: Photographs | None = None,
    ) -> None:
        self._images, self._labels, self._maker, self._rows = images, labels, maker, rows
        self._weights = _weights(labels) if config.balance == "sampler" else None
        self._photographs = photographs
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
        epoch = self._epoch()
        plan = plan_epoch(images, self._config, self._seed, epoch, self._weights)
        device = self._labels.device
        order, choices = plan.order.to(device), plan.choices.to(device)
        for batch in range(len(self)):
            start, stop = batch * size + self._rank, min((batch + 1) * size, images)
            index = order[start : stop : self._world_size]
            part = choices.part(start, stop, self._world_size)
            if self._photographs is None:
                picked, place = self._pick(index)
                yield self._maker.augmented(picked, place, part), self._labels[index]
            else:
                yield self._photographed(self._photographs, index, part, epoch, batch)

    def _photographed(
        self, photographs: Photographs, index: Tensor, choices: Choices, epoch: int, batch: int
    ) -> Batch:
        places = [self._rank + turn * self._world_size for turn in range(len(index))]
        change = partial(photographs.pixels, places=places, epoch=epoch, batch=batch)
        between = change if photographs.changes_pixels else None
        picked, place = self._pick(index)
        images = self._maker.augmented(picked, place, choices, between)
        labels = self._labels[index]
        return (
            photographs.mixed(images, labels, epoch, batch)
            if photographs.mixes
            else (images, labels)
        )

    def _pick(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Images and where the batch lies in them; where they lie elsewhere, only it is brought."""
        if self._rows is not None:
            index = self._rows[index.to(self._rows.device)]
        device = self._labels.device
        if self._images.device == device:
            return self._images, index
        picked = self._images.index_select(0, index.cpu()).to(device)
        return picked, torch.arange(len(index), device=device)


class EvalLoader:
    """Normalised batches in a fixed order, nothing left out."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        maker: BatchMaker,
        batch_size: int | Literal["auto"],
        rows: Tensor | None = None,
    ) -> None:
        """`images` is uint8 [n, height, width, channels], on the device that computes or mapped."""
        self._images, self._labels, self._maker, self._rows = images, labels, maker, rows
        pixels = images.shape[1] * images.shape[2]
        filling = max(1, EVAL_PIXELS_ON_GPU // pixels)
        if labels.device.type == "cpu":
            filling = EVAL_ON_CPU
        self._batch_size = filling if batch_size == "auto" else batch_size

    def __len__(self) -> int:
        return -(-len(self._labels) // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self._labels), self._batch_size):
            part = slice(start, start + self._batch_size)
            images = self._images[part if self._rows is None else self._rows[part]]
            yield self._maker.plain(images.to(self._labels.device)), self._labels[part]


_uploaded: dict[tuple[str, torch.device], tuple[Uint8Array, Tensor]] = {}
"""Of each part and GPU an array and its copy there: this process's next trial has the same. The
array is held, so that no other one can come to lie at its address."""


def _placed(part: str, images: Pixels, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """The images, on the device unless they are mapped or too many for it, and which of them.

    Those that stay are brought a batch at a time.
    """
    if isinstance(images, MappedImages):
        return as_tensor(images.stored), as_tensor(images.rows)
    if device.type == "cpu":
        return as_tensor(images), None
    held = _uploaded.get((part, device))
    if held is not None and held[0].__array_interface__ == images.__array_interface__:
        return held[1], None
    del held
    _uploaded.pop((part, device), None)  # the new ones need its memory
    if images.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
        return as_tensor(images), None
    uploaded = as_tensor(images).to(device)
    _uploaded[part, device] = images, uploaded
    return uploaded, None


def _weights(labels: Tensor) -> Tensor:
    """How often each image comes, [n] float64, so that each class comes equally often."""
    counts = torch.bincount(labels.cpu())
    return 1 / counts[labels.cpu()].double()


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
